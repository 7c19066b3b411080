import { answerWithin, type HearHint, type HintSession, type SessionLook } from '@nestjs-secrets/core';
import type { Client, RedisLink } from './redis-link.js';
import type { StoreKeys } from './store-keys.js';

/** A connection that has subscribed to the channel of a store. */
export class RedisHintSession implements HintSession {
  readonly ended: Promise<void>;
  #client: Client | undefined;
  #looking: Promise<SessionLook> | undefined;
  #hasLooked = false;
  #isEnded = false;
  #sayEnded: () => void = () => undefined;

  constructor(
    private readonly link: RedisLink,
    private readonly keys: StoreKeys,
    private readonly answerWithinMs: number,
    private readonly hear: HearHint,
  ) {
    this.ended = new Promise((resolve) => (this.#sayEnded = resolve));
  }

  async open(): Promise<void> {
    const client = await this.link.connect();
    if (this.#isEnded) {
      client.destroy();
      throw new Error('The session was ended while it connected.');
    }
    this.#client = client;
    client.once('terminated', () => this.end());
    // Waiting for hints is no reason for a process to stay.
    client.unref();
    const subscribing = client.subscribe(this.keys.channel, (message) => this.#take(message));
    await answerWithin(this.answerWithinMs, 'subscribing', subscribing);
  }

  /** One question covers all who ask at the time: the session listens to every commit, whatever the prefixes. */
  async look(): Promise<SessionLook | undefined> {
    const client = this.#client;
    if (client === undefined || this.#looking !== undefined) return undefined;
    this.#looking = this.#lookOn(client);
    try {
      return await this.#looking;
    } finally {
      this.#looking = undefined;
    }
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#client?.destroy();
    this.#sayEnded();
  }

  async #lookOn(client: Client): Promise<SessionLook> {
    const reply = await answerWithin(this.answerWithinMs, 'a look', client.sendCommand(['GET', this.keys.revision]));
    const isNew = !this.#hasLooked;
    this.#hasLooked = true;
    return { revision: Number(reply ?? 0), isNew };
  }

  /** Anybody may publish, so a message may be anything. */
  #take(message: string): void {
    const [revision, ...keys] = message.split(' ').filter((word) => word !== '');
    if (!this.#isEnded) this.hear(Number(revision), keys.length === 0 ? {} : { keys });
  }
}
