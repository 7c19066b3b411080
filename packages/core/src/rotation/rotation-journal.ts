import { RotationInterruptedError, StoreContentionError } from '../foundation/errors.js';
import { borrowKey } from '../fleet/acknowledgements.js';
import { INSTANCE_PREFIX } from '../fleet/instance-record.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../store/store-driver.js';
import type { SecretRecord } from '../versions/secret-record.js';
import type { RecordEdit, VersionStore } from '../versions/version-store.js';
import {
  isUnfinished,
  NO_ROTATION,
  parseRotationState,
  type RotationLease,
  type RotationState,
} from './rotation-state.js';

export const JOURNAL_PREFIX = 'rotation/';
/**
 * One empty entry for each journal with something under way, if only a lease, so that looking for what others left costs what is unfinished. A lease
 * whose commit had no answer is found by its own holder this way.
 */
const UNFINISHED_PREFIX = 'unfinished/';
const ATTEMPTS = 50;
const PAGE = 500;

/** Both halves of a change of a journal and its secret. */
export interface JointEdit {
  readonly state: RotationState;
  readonly edit: RecordEdit;
}

/**
 * The write-ahead journal of rotations: one record a secret. Whoever changes it in the course of a rotation states his fencing token, which is
 * checked in the very commit that carries the change: a process that lost the lease changes nothing more.
 */
export class RotationJournal {
  constructor(
    private readonly store: StoreDriver,
    private readonly versions: VersionStore,
  ) {}

  async read(secretName: string): Promise<RotationState> {
    return (await this.#load(secretName)).state;
  }

  /** The names of all secrets that have something under way, or a lease that somebody holds. */
  async unfinished(): Promise<string[]> {
    const names: string[] = [];
    for (;;) {
      const after = names.at(-1);
      const page = await this.store.list({
        prefix: UNFINISHED_PREFIX,
        limit: PAGE,
        ...(after === undefined ? {} : { after: UNFINISHED_PREFIX + after }),
      });
      for (const entry of page) names.push(entry.key.slice(UNFINISHED_PREFIX.length));
      if (page.length < PAGE) return names;
    }
  }

  /** Hints that the journal of a secret may have changed; undefined for any. */
  watch(onHint: (secretName: string | undefined) => void): () => void {
    return this.store.watch(
      ({ keys }) => {
        if (keys === undefined) onHint(undefined);
        for (const key of keys ?? []) if (key.startsWith(JOURNAL_PREFIX)) onHint(key.slice(JOURNAL_PREFIX.length));
      },
      [JOURNAL_PREFIX],
    );
  }

  /**
   * Gives the lease to `holder` when it is free, or was that one's already, or belongs to an instance that `isGone`. Returns the state: `lease`
   * says whose it is now.
   */
  async take(secretName: string, holder: string, isGone: (holder: string) => Promise<boolean>): Promise<RotationState> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { state, revision } = await this.#load(secretName);
      const conditions: StoreCondition[] = [{ key: JOURNAL_PREFIX + secretName, revision }];
      if (state.lease !== undefined && state.lease.holder !== holder) {
        if (!(await isGone(state.lease.holder))) return state;
        // Gone is who has no entry, so this holds in the commit as well.
        conditions.push({ key: INSTANCE_PREFIX + state.lease.holder, revision: 0 });
      }
      const token = (state.fence ?? 0) + 1;
      const next: RotationState = { ...state, fence: token, lease: { holder, token } };
      const writes = [journalWrite(secretName, next), ...indexWrites(secretName, state, next)];
      const committed = await this.store.commit({ conditions, writes });
      if (committed !== undefined) return next;
    }
    throw new StoreContentionError(secretName);
  }

  /** Changes what is nobody's step: `edit` returns undefined, or what it was given, to leave the journal as it is. */
  async annotate(
    secretName: string,
    edit: (state: RotationState) => RotationState | undefined,
  ): Promise<RotationState> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { state, revision } = await this.#load(secretName);
      const next = edit(state);
      // A commit that changes nothing would send a hint all the same, and whoever follows hints would ask again.
      if (next === undefined || next === state) return state;
      const committed = await this.store.commit({
        conditions: [{ key: JOURNAL_PREFIX + secretName, revision }],
        writes: [journalWrite(secretName, next), ...indexWrites(secretName, state, next)],
      });
      if (committed !== undefined) return next;
    }
    throw new StoreContentionError(secretName);
  }

  /**
   * Changes the journal alone. `edit` returns undefined to give up because the state is not what the caller stands on.
   * @throws RotationInterruptedError then, and when the token is no longer the lease's
   */
  change(
    secretName: string,
    token: number,
    edit: (state: RotationState) => RotationState | undefined,
  ): Promise<RotationState> {
    return this.annotate(secretName, (state) => {
      const next = state.lease?.token === token ? edit(state) : undefined;
      if (next === undefined) throw new RotationInterruptedError(secretName);
      return concluded(next);
    });
  }

  /** Changes the journal and the secret's record in one commit; see `change`. */
  async changeBoth(
    secretName: string,
    token: number,
    edit: (
      state: RotationState,
      record: SecretRecord | undefined,
    ) => Promise<JointEdit | undefined> | JointEdit | undefined,
  ): Promise<{ state: RotationState; record: SecretRecord }> {
    let committed = NO_ROTATION;
    const record = await this.versions.change(secretName, async (before) => {
      const { state, revision } = await this.#load(secretName);
      const next = state.lease?.token === token ? await edit(state, before) : undefined;
      if (next === undefined) throw new RotationInterruptedError(secretName);
      committed = concluded(next.state);
      return {
        record: next.edit.record,
        conditions: [...(next.edit.conditions ?? []), { key: JOURNAL_PREFIX + secretName, revision }],
        writes: [
          ...(next.edit.writes ?? []),
          journalWrite(secretName, committed),
          ...indexWrites(secretName, state, committed),
        ],
      };
    });
    if (record === undefined) throw new RotationInterruptedError(secretName);
    return { state: committed, record };
  }

  /**
   * Removes a secret, its values and its journal in one commit.
   * @throws RotationInterruptedError when the token is no longer the lease's
   */
  async remove(secretName: string, token: number): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { state, revision } = await this.#load(secretName);
      if (state.lease?.token !== token) throw new RotationInterruptedError(secretName);
      const removed = await this.versions.remove(secretName, {
        conditions: [{ key: JOURNAL_PREFIX + secretName, revision }],
        writes: [
          { key: JOURNAL_PREFIX + secretName, value: null },
          { key: UNFINISHED_PREFIX + secretName, value: null },
          { key: borrowKey(secretName), value: null },
        ],
      });
      if (removed) return;
    }
    throw new StoreContentionError(secretName);
  }

  /** Removes a secret with its values and its journal, unless something of it is under way; false then. */
  async purge(secretName: string): Promise<boolean> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { state, revision } = await this.#load(secretName);
      if (isUnfinished(state) || state.lease !== undefined) return false;
      const key = JOURNAL_PREFIX + secretName;
      const removed = await this.versions.remove(secretName, {
        conditions: [{ key, revision }],
        writes: [key, borrowKey(secretName)].map((gone) => ({ key: gone, value: null })),
      });
      if (removed) return true;
    }
    throw new StoreContentionError(secretName);
  }

  /**
   * What puts the journal of a secret back, for a commit of the caller; undefined while something of that name is under way. Whoever had a lease of it has none in the new
   * one: its number goes on from the highest that is known.
   */
  async restoring(
    secretName: string,
    journal: RotationState | undefined,
  ): Promise<{ readonly condition: StoreCondition; readonly writes: readonly StoreWrite[] } | undefined> {
    const { state, revision } = await this.#load(secretName);
    if (isUnfinished(state) || state.lease !== undefined) return undefined;
    const condition = { key: JOURNAL_PREFIX + secretName, revision };
    if (journal === undefined) return { condition, writes: [] };
    const { lease: _left, ...rest } = journal;
    const next = { ...rest, fence: Math.max(state.fence ?? 0, journal.fence ?? 0) };
    return { condition, writes: [journalWrite(secretName, next), ...indexWrites(secretName, state, next)] };
  }

  async #load(secretName: string): Promise<{ state: RotationState; revision: number }> {
    const entry = await this.store.get(JOURNAL_PREFIX + secretName);
    if (entry === undefined) return { state: NO_ROTATION, revision: 0 };
    return { state: parseRotationState(secretName, entry.value), revision: entry.revision };
  }
}

/** Lets go of the lease in the commit that leaves nothing under way, or that leaves only waiting while another instance wants it. */
function concluded(state: RotationState): RotationState {
  const { lease, ...rest } = state;
  if (lease === undefined) return state;
  const isBusy = state.active !== undefined || state.obligations.some(({ step }) => step === 'retire');
  const letsGo = isUnfinished(state) ? isWanted(lease) && !isBusy : true;
  return letsGo ? rest : state;
}

function isWanted(lease: RotationLease): boolean {
  return lease.wantedBy !== undefined && lease.wantedBy !== lease.holder;
}

function journalWrite(secretName: string, state: RotationState): StoreWrite {
  return { key: JOURNAL_PREFIX + secretName, value: Buffer.from(JSON.stringify(state)) };
}

function indexWrites(secretName: string, before: RotationState, after: RotationState): StoreWrite[] {
  const isListed = (state: RotationState): boolean => isUnfinished(state) || state.lease !== undefined;
  if (isListed(after) === isListed(before)) return [];
  return [{ key: UNFINISHED_PREFIX + secretName, value: isListed(after) ? Buffer.alloc(0) : null }];
}
