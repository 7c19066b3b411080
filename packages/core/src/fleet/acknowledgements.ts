import { type Cancel, type Clock, pause } from '../foundation/clock.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreDriver, StoreWrite } from '../store/store-driver.js';
import type { Instance } from './instance.js';

/** An instance's word on one secret: what it runs on, and what its consumers still hold. */
export interface Acknowledgement {
  readonly secretName: string;
  /** The promotion its handle has reached; 0 before it has read anything. */
  readonly promotion: number;
  /** The label of each consumer, with the version ids it holds. */
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

export const ACKNOWLEDGEMENT_PREFIX = 'ack/';
const BORROW_PREFIX = 'borrow/';
const LONGEST_RETRY_MS = 5_000;
const FIRST_RETRY_MS = 100;

export function acknowledgementKey(secretName: string, instanceId: string): string {
  // A colon can stand in neither part.
  return `${ACKNOWLEDGEMENT_PREFIX}${secretName}:${instanceId}`;
}

/** Changes whenever an instance that had let go of old versions may take one up again. */
export function borrowKey(secretName: string): string {
  return BORROW_PREFIX + secretName;
}

/**
 * Keeps this instance's acknowledgements in the store. Of each secret the newest word is written, one commit at a time; what is overtaken
 * before it was written is skipped. A word that is late only keeps an old credential alive for longer.
 */
export class Acknowledgements {
  readonly #latest = new Map<string, Acknowledgement>();
  readonly #borrowed = new Map<string, Map<string, number>>();
  readonly #writing = new Map<string, Promise<void>>();
  readonly #stale = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #unlisten: Cancel;

  constructor(
    private readonly store: StoreDriver,
    private readonly instance: Instance,
    private readonly clock: Clock,
    private readonly randomness: Randomness,
  ) {
    this.#unlisten = instance.listen({ rejoining: () => this.#everyWord() });
  }

  /**
   * Says, before this instance reads a secret for the first time, that it is about to: from then on whoever retires a version waits for it.
   * @throws StoreUnavailableError
   */
  async register(secretName: string): Promise<void> {
    if (!this.#latest.has(secretName)) this.#latest.set(secretName, { secretName, promotion: 0, held: [] });
    await this.store.commit({ conditions: [], writes: [this.#write(secretName)] });
  }

  /** Takes the newest word on a secret. */
  acknowledge(acknowledgement: Acknowledgement): void {
    const { secretName } = acknowledgement;
    this.#latest.set(secretName, acknowledgement);
    this.#stale.add(secretName);
    if (this.#writing.has(secretName) || this.#stopping.signal.aborted) return;
    const writing = this.#writeUntilDone(secretName).finally(() => this.#writing.delete(secretName));
    this.#writing.set(secretName, writing);
  }

  /**
   * Says that old versions of a secret may be taken up again, before they are. The function returned ends it; by then whoever took one up
   * must have said so himself.
   * @throws StoreUnavailableError
   */
  async borrow(secretName: string, versionIds: readonly string[]): Promise<Cancel> {
    const borrowed = this.#borrowed.get(secretName) ?? new Map<string, number>();
    this.#borrowed.set(secretName, borrowed);
    for (const id of versionIds) borrowed.set(id, (borrowed.get(id) ?? 0) + 1);
    let isOver = false;
    const giveBack = (): void => {
      if (isOver) return;
      isOver = true;
      for (const id of versionIds) {
        const uses = (borrowed.get(id) ?? 1) - 1;
        if (uses > 0) borrowed.set(id, uses);
        else borrowed.delete(id);
      }
      const latest = this.#latest.get(secretName);
      if (latest !== undefined) this.acknowledge(latest);
    };
    try {
      await this.store.commit({ conditions: [], writes: [this.#write(secretName), this.#touch(secretName)] });
    } catch (error) {
      giveBack();
      throw error;
    }
    return giveBack;
  }

  /** Takes back every word of this instance, so that nobody waits for it. Never throws. */
  async leave(): Promise<void> {
    this.#unlisten();
    this.#stopping.abort();
    await Promise.allSettled(this.#writing.values());
    const writes = [...this.#latest.keys()].map((name) => ({
      key: acknowledgementKey(name, this.instance.id),
      value: null,
    }));
    for (let from = 0; from < writes.length; from += 100)
      await this.store.commit({ conditions: [], writes: writes.slice(from, from + 100) }).catch(() => undefined);
  }

  /** Whoever has looked at the words without these must look again. */
  #everyWord(): StoreWrite[] {
    return [...this.#latest.keys()].flatMap((name) => [this.#write(name), this.#touch(name)]);
  }

  async #writeUntilDone(secretName: string): Promise<void> {
    const { signal } = this.#stopping;
    for (let attempt = 0; this.#stale.has(secretName) && !signal.aborted;) {
      this.#stale.delete(secretName);
      try {
        await this.store.commit({ conditions: [], writes: [this.#write(secretName)] });
        attempt = 0;
      } catch {
        this.#stale.add(secretName);
        // Full jitter, so that a fleet that lost its store together does not come back together.
        const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
        attempt = Math.min(attempt + 1, 10);
        await pause(this.clock, 1 + this.randomness.below(longest), signal);
      }
    }
  }

  #touch(secretName: string): StoreWrite {
    return { key: borrowKey(secretName), value: Buffer.from(this.instance.id) };
  }

  #write(secretName: string): StoreWrite {
    const { promotion, held } = this.#latest.get(secretName) ?? { promotion: 0, held: [] };
    const borrowed = [...(this.#borrowed.get(secretName)?.keys() ?? [])];
    const all = borrowed.length === 0 ? held : [...held, { label: 'a log-in being tried again', versionIds: borrowed }];
    const word = { format: 1, promotion, held: all.filter(({ versionIds }) => versionIds.length > 0) };
    return { key: acknowledgementKey(secretName, this.instance.id), value: Buffer.from(JSON.stringify(word)) };
  }
}
