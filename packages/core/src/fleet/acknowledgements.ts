import { type Cancel, type Clock, pause } from '../foundation/clock.js';
import { StoreContentionError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../store/store-driver.js';
import type { Instance, ToldAnew } from './instance.js';

/** An instance's word on one secret: what it runs on, and what its consumers still hold. */
export interface Acknowledgement {
  readonly secretName: string;
  /** The promotion its handle has reached; 0 before it has read anything. */
  readonly promotion: number;
  /** The version that this promotion made current, for the audit log. */
  readonly versionId?: string;
  /** The label of each consumer, with the version ids it holds. */
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

export const ACKNOWLEDGEMENT_PREFIX = 'ack/';
const BORROW_PREFIX = 'borrow/';
/** Only whoever removes the word of an instance that was declared dead comes in between. */
const ATTEMPTS = 10;
/** Some stores take little more than a hundred writes in one commit. */
const TOGETHER = 50;
const LONGEST_RETRY_MS = 5_000;
const FIRST_RETRY_MS = 100;

export function acknowledgementKey(secretName: string, instanceId: string): string {
  // A colon can stand in neither part.
  return `${ACKNOWLEDGEMENT_PREFIX}${secretName}:${instanceId}`;
}

/** Changes whenever an instance begins to follow the secret, or may take an old version up again that it had let go of. */
export function borrowKey(secretName: string): string {
  return BORROW_PREFIX + secretName;
}

/**
 * Keeps this instance's acknowledgements in the store. Of each secret the newest word is written, one commit at a time; what is overtaken
 * before it was written is skipped. A word that is late only keeps an old credential alive for longer: each is written on condition that the
 * one before still stands, so that none comes after a newer one.
 */
export class Acknowledgements {
  readonly #latest = new Map<string, Acknowledgement>();
  /** The revision of each word in the store; missing where nobody knows, as after a commit without an answer. */
  readonly #revisions = new Map<string, number>();
  /** The commit under way, and the one that follows it. */
  readonly #saying = new Map<string, Promise<void>>();
  readonly #next = new Map<string, { isBorrowing: boolean; readonly said: Promise<void> }>();
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
    // Whoever has looked at the words without this one must look again.
    await this.#say(secretName, true);
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
      await this.#say(secretName, true);
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
    for (let from = 0; from < writes.length; from += TOGETHER)
      await this.store.commit({ conditions: [], writes: writes.slice(from, from + TOGETHER) }).catch(() => undefined);
  }

  /** Every word, each on condition of what stands in the store now. Whoever looked at the words without these must look again. */
  async #everyWord(): Promise<ToldAnew[]> {
    const all = [...this.#latest.keys()];
    const told: ToldAnew[] = [];
    for (let from = 0; from < all.length; from += TOGETHER) {
      const names = all.slice(from, from + TOGETHER);
      const conditions = await Promise.all(
        names.map(async (name) => this.#condition(name, await this.#revisionOf(name))),
      );
      told.push({
        conditions,
        writes: names.flatMap((name) => [this.#write(name), this.#touch(name)]),
        written: (revision) => names.forEach((name) => this.#revisions.set(name, revision)),
      });
    }
    return told;
  }

  /** Writes the newest word, when the commit under way has ended; whoever comes meanwhile shares the next. */
  #say(secretName: string, isBorrowing = false): Promise<void> {
    const next = this.#next.get(secretName);
    if (next !== undefined) {
      next.isBorrowing ||= isBorrowing;
      return next.said;
    }
    const before = this.#saying.get(secretName) ?? Promise.resolve();
    const said: Promise<void> = before.then(() => {
      this.#next.delete(secretName);
      return this.#commit(secretName, own.isBorrowing);
    });
    const own = { isBorrowing, said };
    this.#next.set(secretName, own);
    const ended = said.then(
      () => undefined,
      () => undefined,
    );
    this.#saying.set(secretName, ended);
    void ended.then(() => this.#saying.get(secretName) === ended && this.#saying.delete(secretName));
    return said;
  }

  async #commit(secretName: string, isBorrowing: boolean): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const known = this.#revisions.get(secretName);
      this.#revisions.delete(secretName);
      const standing = known ?? (await this.#revisionOf(secretName));
      const writes = [this.#write(secretName)];
      if (isBorrowing) writes.push(this.#touch(secretName));
      const revision = await this.store.commit({ conditions: [this.#condition(secretName, standing)], writes });
      if (revision === undefined) continue;
      this.#revisions.set(secretName, revision);
      return;
    }
    throw new StoreContentionError(secretName);
  }

  async #writeUntilDone(secretName: string): Promise<void> {
    const { signal } = this.#stopping;
    for (let attempt = 0; this.#stale.has(secretName) && !signal.aborted;) {
      this.#stale.delete(secretName);
      try {
        await this.#say(secretName);
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

  async #revisionOf(secretName: string): Promise<number> {
    const entry = await this.store.get(acknowledgementKey(secretName, this.instance.id));
    return entry?.revision ?? 0;
  }

  #touch(secretName: string): StoreWrite {
    return { key: borrowKey(secretName), value: Buffer.from(this.instance.id) };
  }

  #condition(secretName: string, revision: number): StoreCondition {
    return { key: acknowledgementKey(secretName, this.instance.id), revision };
  }

  #write(secretName: string): StoreWrite {
    const { promotion, held } = this.#latest.get(secretName) ?? { promotion: 0, held: [] };
    const borrowed = [...(this.#borrowed.get(secretName)?.keys() ?? [])];
    const all = borrowed.length === 0 ? held : [...held, { label: 'a log-in being tried again', versionIds: borrowed }];
    const word = { format: 1, promotion, held: all.filter(({ versionIds }) => versionIds.length > 0) };
    return { key: acknowledgementKey(secretName, this.instance.id), value: Buffer.from(JSON.stringify(word)) };
  }
}
