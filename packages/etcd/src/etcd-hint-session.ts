import { answerWithin, systemClock, type HearHint, type HintSession, type SessionLook } from '@nestjs-secrets/core';
import { parsed, type EtcdGateway, type GatewayStream } from './etcd-gateway.js';
import { revisionIn, type WatchResponse } from './gateway-messages.js';
import { readHead } from './read-head.js';
import { fromBase64, type StoreKeys } from './store-keys.js';

/**
 * A stream on which etcd tells of each put of the head. It begins at the present, so a compaction is nothing to it; what was before is for
 * watchers to look at.
 */
export class EtcdHintSession implements HintSession {
  readonly ended: Promise<void>;
  #stream: GatewayStream | undefined;
  #looking: Promise<SessionLook> | undefined;
  #hasLooked = false;
  #isEnded = false;
  #sayEnded: () => void = () => undefined;
  /** All up to this revision has been heard. */
  #heard = 0;
  /** What the stream had to tell when it was last looked at, and when that was. */
  #due = { revision: 0, at: 0 };

  constructor(
    private readonly gateway: EtcdGateway,
    private readonly keys: StoreKeys,
    private readonly answerWithinMs: number,
    private readonly hear: HearHint,
  ) {
    this.ended = new Promise((resolve) => (this.#sayEnded = resolve));
  }

  async open(): Promise<void> {
    let begun: (response: WatchResponse) => void = () => undefined;
    const created = new Promise<WatchResponse>((resolve) => (begun = resolve));
    const take = (line: string): void => {
      const { result } = parsed(line) as { readonly result?: WatchResponse };
      if (result?.created === true) begun(result);
      if (result === undefined || result.canceled === true) this.end();
      else this.#take(result);
    };
    const stream = await this.gateway.stream(
      '/v3/watch',
      { create_request: { key: this.keys.head } },
      (line) => this.#guarded(() => take(line)),
      () => this.end(),
    );
    this.#stream = stream;
    if (this.#isEnded) stream.end();
    const over = this.ended.then(() => Promise.reject(new Error('the watch was not begun')));
    const response = await answerWithin(this.answerWithinMs, 'the watch', Promise.race([created, over]));
    if (response.canceled !== true) return;
    // Where tokens are in use it may have been an old one.
    this.gateway.forgetToken();
    throw new Error('the watch was refused');
  }

  /** One question covers all who ask at the time: the session listens to every commit, whatever the prefixes. */
  async look(): Promise<SessionLook | undefined> {
    if (this.#stream === undefined || this.#looking !== undefined) return undefined;
    this.#looking = this.#lookOnce();
    try {
      return await this.#looking;
    } finally {
      this.#looking = undefined;
    }
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#stream?.end();
    this.#sayEnded();
  }

  async #lookOnce(): Promise<SessionLook> {
    const { result: revision } = await readHead(this.gateway, this.keys);
    const now = systemClock.monotonic();
    if (now - this.#due.at >= this.answerWithinMs / 2) {
      // The question went another way than the stream, which may have died without a word.
      if (this.#heard < this.#due.revision)
        throw new Error('The stream has not told what it should have told long ago.');
      this.#due = { revision, at: now };
    }
    const isNew = !this.#hasLooked;
    this.#hasLooked = true;
    return { revision, isNew };
  }

  #take(response: WatchResponse): void {
    const revision = revisionIn(response);
    for (const { kv } of response.events ?? []) {
      if (kv === undefined) continue;
      const keys = fromBase64(kv.value ?? '')
        .toString('latin1')
        .split(' ')
        .filter((key) => key !== '');
      if (!this.#isEnded) this.hear(Number(kv.mod_revision), keys.length === 0 ? {} : { keys });
    }
    this.#heard = Math.max(this.#heard, revision);
  }

  /** A stream that does not speak as etcd does has ended. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch {
      this.end();
    }
  }
}
