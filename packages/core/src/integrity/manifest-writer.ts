import { type Clock, hold, pause } from '../foundation/clock.js';
import { StoreClosedError, StoreContentionError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../store/store-driver.js';
import { copyKeyOf, groupOf, kindOf } from './entry-kinds.js';
import type { Manifest } from './manifest.js';
import { ManifestChange } from './manifest-change.js';
import { ROOT_KEY } from './manifest-root.js';
import type { RecordReader } from './record-reader.js';
import { sealInPlace, type SealableWrite } from './record-seal.js';

export interface SealableCommit {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly SealableWrite[];
}

interface WaitingCommit {
  readonly commit: SealableCommit;
  readonly resolve: (revision: number | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Some stores take little more than a hundred parts in one commit. */
const BATCH_PARTS = 100;
/** What a group costs beside its own entries, at least: its leaf, and a node above it. */
const PARTS_A_GROUP = 2;
const BATCH_BYTES = 2_097_152;
const ATTEMPTS = 200;
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 64;

export interface WriterParts {
  readonly store: StoreDriver;
  readonly manifest: Manifest;
  readonly reader: RecordReader;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

/**
 * Commits what the manifest lists: each change carries the root in the same commit, so changes come one after the other. Those of this process that wait share the
 * next one, as long as they have nothing to do with each other; against other processes it tries again, with jitter.
 */
export class ManifestWriter {
  #waiting: WaitingCommit[] = [];
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  readonly #closing = new AbortController();

  constructor(private readonly parts: WriterParts) {}

  commit(commit: SealableCommit): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ commit, resolve, reject });
      if (!this.#isRunning) this.#running = this.#run();
    });
  }

  /** Refuses what has not begun, and resolves when what has is over. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const { reject } of this.#waiting.splice(0)) reject(new StoreClosedError(this.parts.store.name));
    await this.#running;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // Lets those who commit in the same breath join.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#carryOut(this.#take());
    this.#isRunning = false;
  }

  /** Those that wait, in their order, up to the first one that has to do with another one or does not fit any more. */
  #take(): WaitingCommit[] {
    if (this.#waiting.length === 1) return this.#waiting.splice(0);
    const taken: WaitingCommit[] = [];
    const written = new Set<string>();
    const conditioned = new Set<string>();
    let parts = 0;
    let bytes = 0;
    for (const waiting of this.#waiting) {
      const { conditions, writes } = waiting.commit;
      const isApart =
        writes.every(({ key }) => !written.has(key) && !conditioned.has(key)) &&
        conditions.every(({ key }) => !written.has(key));
      parts += partsOf(waiting.commit);
      bytes += writes.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
      if (taken.length > 0 && (!isApart || parts > BATCH_PARTS || bytes > BATCH_BYTES)) break;
      taken.push(waiting);
      for (const { key } of writes) written.add(key);
      for (const { key } of conditions) conditioned.add(key);
    }
    return this.#waiting.splice(0, taken.length);
  }

  async #carryOut(batch: readonly WaitingCommit[]): Promise<void> {
    let left = batch;
    try {
      for (let attempt = 0; left.length > 0; attempt += 1) {
        if (attempt === ATTEMPTS) throw new StoreContentionError('the manifest');
        if (left.some(makesAnything)) left = await this.#hidden(left);
        if (left.length === 0) return;
        const sequence = await this.#tryOnce(left);
        if (sequence !== undefined) {
          for (const { resolve } of left) resolve(sequence);
          return;
        }
        left = await this.#withoutFailed(left);
        if (left.length > 0 && attempt > 0) await this.#pause(attempt);
      }
    } catch (error) {
      for (const { reject } of left) reject(error);
    }
  }

  async #tryOnce(batch: readonly WaitingCommit[]): Promise<number | undefined> {
    const { store, manifest } = this.parts;
    const known = await manifest.current();
    const { update, writes, revision } = await manifest.consult(async ({ root, revision }) => {
      const sequence = root.sequence + 1;
      const tags = new Map<string, Buffer | undefined>();
      const sealed: StoreWrite[] = [];
      for (const { commit } of batch) for (const write of commit.writes) this.#seal(write, sequence, tags, sealed);
      const changed = await new ManifestChange(manifest.nodes, manifest.keys, root).apply(tags, sequence);
      return { update: changed, writes: [...sealed, ...changed.writes], revision };
    }, known);
    const conditions = [...conditionsOf(batch), { key: ROOT_KEY, revision }];
    try {
      const committed = await store.commit({ conditions, writes });
      if (committed !== undefined) manifest.advance(update, committed);
      return committed;
    } catch (error) {
      manifest.doubt();
      throw error;
    }
  }

  #seal(
    { key, kind, value }: SealableWrite,
    sequence: number,
    tags: Map<string, Buffer | undefined>,
    to: StoreWrite[],
  ) {
    to.push({ key, value });
    if (kind === 'plain') return;
    const isListed = kind === 'listed';
    const tag = value === null ? undefined : sealInPlace(this.parts.manifest.keys, key, value, isListed ? sequence : 0);
    if (!isListed) return;
    tags.set(key, tag);
    const copy = copyKeyOf(key);
    if (copy !== undefined) to.push({ key: copy, value });
  }

  /** Those whose conditions still hold; the others get their answer. */
  async #withoutFailed(batch: readonly WaitingCommit[]): Promise<readonly WaitingCommit[]> {
    const { store, manifest } = this.parts;
    const keys = new Set(batch.flatMap(({ commit }) => commit.conditions.map(({ key }) => key)));
    const revisions = new Map<string, number>();
    await Promise.all([
      manifest.refresh(),
      ...[...keys].map(async (key) => revisions.set(key, (await store.get(key))?.revision ?? 0)),
    ]);
    return batch.filter(({ commit, resolve }) => {
      const holds = commit.conditions.every(({ key, revision }) => revisions.get(key) === revision);
      if (!holds) resolve(undefined);
      return holds;
    });
  }

  /** What is there must not be made anew because somebody made it vanish. */
  async #hidden(batch: readonly WaitingCommit[]): Promise<readonly WaitingCommit[]> {
    const { manifest, reader } = this.parts;
    const left: WaitingCommit[] = [];
    for (const waiting of batch) {
      const absent = waiting.commit.conditions.filter(isAbsence);
      let isLeft = true;
      try {
        for (const { key } of absent) {
          const known = await manifest.current();
          const tag = await manifest.consult(({ root }) => manifest.nodes.tag(root, key), known);
          // Either it is there, or it is not for a reason that this tells; or the manifest has moved on.
          if (tag !== undefined && (await reader.get(key)) !== undefined) isLeft = false;
        }
        if (isLeft) left.push(waiting);
        else waiting.resolve(undefined);
      } catch (error) {
        waiting.reject(error);
      }
    }
    return left;
  }

  /** Full jitter: processes that ran into each other must not do so again. */
  async #pause(attempt: number): Promise<void> {
    const { clock, randomness } = this.parts;
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 10));
    await hold(clock, pause(clock, 1 + randomness.below(longest), this.#closing.signal));
  }
}

/** Of something that the manifest lists. */
function isAbsence({ key, revision }: StoreCondition): boolean {
  return revision === 0 && kindOf(key) === 'listed';
}

function makesAnything({ commit }: WaitingCommit): boolean {
  return commit.conditions.some(isAbsence);
}

function partsOf({ conditions, writes }: SealableCommit): number {
  const groups = new Set(writes.map(({ key }) => groupOf(key)));
  return Math.max(conditions.length, writes.length) + groups.size * PARTS_A_GROUP;
}

/** Two conditions on one key can both be meant; only equal ones are one. */
function conditionsOf(batch: readonly WaitingCommit[]): Iterable<StoreCondition> {
  const all = batch.flatMap(({ commit }) => commit.conditions);
  return all.length < 2 ? all : new Map(all.map((one) => [`${one.key} ${one.revision}`, one])).values();
}
