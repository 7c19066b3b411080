import { INSTANCE_PREFIX, type KnownPhase, PHASE_KEY, THROUGH_PREFIX } from './move-records.js';
import type { StoreCommit, StoreCondition, StoreDriver, StoreWrite } from './store-driver.js';

/** Commits to either side of a move, whose callers know of one store only and count revisions through. */
export class MoveCommits {
  /** Instances whose heartbeat is known to stand beside the word that they know of moves. */
  readonly #through = new Set<string>();

  constructor(
    private readonly from: StoreDriver,
    private readonly to: StoreDriver,
    /** What is added to the revisions of the old store. */
    private readonly base: () => number,
  ) {}

  /** To the old store, on condition that the phase is still this one. The driver's revision; undefined when some condition did not hold. */
  async here({ conditions, writes }: StoreCommit, phase: KnownPhase): Promise<number | undefined> {
    const base = this.base();
    // Of a store that this one was moved from, which has been written to since.
    if (conditions.some(({ revision }) => revision > 0 && revision <= base)) return undefined;
    const own = conditions.map(({ key, revision }) => ({ key, revision: Math.max(0, revision - base) }));
    const words = writes.flatMap((write) => this.#wordOf(write) ?? []);
    const revision = await this.from.commit({
      conditions: [...own, { key: PHASE_KEY, revision: phase.revision }],
      writes: [...writes, ...words],
    });
    if (revision === undefined) return undefined;
    for (const { key, value } of words) {
      if (value === null) this.#through.delete(key);
      else this.#through.add(key);
    }
    return revision;
  }

  /** To the new store. The revision as callers count; undefined when some condition did not hold. */
  async there({ conditions, writes }: StoreCommit, phase: KnownPhase): Promise<number | undefined> {
    // The revisions of the new store go on where those of the old one ended.
    const offset = this.base() + phase.revision;
    const own: StoreCondition[] = [];
    for (const { key, revision } of conditions) {
      const there = revision > offset ? revision - offset : await this.#copyOf(key, revision, phase);
      if (there === undefined) return undefined;
      own.push({ key, revision: there });
    }
    const revision = await this.to.commit({ conditions: own, writes });
    return revision === undefined ? undefined : revision + offset;
  }

  /**
   * The revision of the copy of what stood under `key` in the old store with this revision; undefined when that was not there any more when the store was moved, or was
   * written since. Where the old store cannot be asked, the caller is to look again, as after any conflict.
   */
  async #copyOf(key: string, revision: number, { record }: KnownPhase): Promise<number | undefined> {
    if (revision === 0) return 0;
    const [left, there] = [await this.from.get(key).catch(() => undefined), await this.to.get(key)];
    const isLatest = left !== undefined && left.revision + this.base() === revision;
    return isLatest && there !== undefined && there.revision <= (record.cut ?? 0) ? there.revision : undefined;
  }

  /** With the heartbeat of an instance goes the word that it knows of moves, once. */
  #wordOf({ key, value }: StoreWrite): StoreWrite | undefined {
    if (!key.startsWith(INSTANCE_PREFIX)) return undefined;
    const word = THROUGH_PREFIX + key.slice(INSTANCE_PREFIX.length);
    if (value === null) return { key: word, value: null };
    return this.#through.has(word) ? undefined : { key: word, value: Buffer.alloc(0) };
  }
}
