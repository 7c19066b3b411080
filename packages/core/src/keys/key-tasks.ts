import { StoreContentionError } from '../foundation/errors.js';
import type { InstanceWatch } from '../fleet/instance-watch.js';
import { INSTANCE_PREFIX } from '../fleet/instance-record.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../store/store-driver.js';

export const TASK_PREFIX = 'cmk/open/';
const PAGE = 500;
const ATTEMPTS = 10;

interface TaskBase {
  readonly format: 1;
  /** The id of the instance that carries it out; empty when nobody does. */
  readonly holder: string;
}

/** A key version that is made and not active yet. */
export interface PublicationTask extends TaskBase {
  readonly kind: 'publish';
  readonly id: string;
  readonly version: number;
  /** Whether everything under the key is to be sealed anew once it is active. */
  readonly rewrap: boolean;
}

/** Values being sealed anew. */
export interface RewrapTask extends TaskBase {
  readonly kind: 'rewrap';
  /** The id of a key, or `*` for everything. */
  readonly scope: string;
  /** The entry that was done last. */
  readonly cursor: string | undefined;
  readonly seen: number;
  readonly resealed: number;
  readonly failed: number;
  readonly failures: readonly string[];
}

export type KeyTask = PublicationTask | RewrapTask;

export interface OpenTask<T extends KeyTask = KeyTask> {
  readonly task: T;
  readonly revision: number;
}

export function taskKey(task: Pick<PublicationTask, 'kind' | 'id'> | Pick<RewrapTask, 'kind' | 'scope'>): string {
  return `${TASK_PREFIX}${task.kind}:${task.kind === 'publish' ? task.id : task.scope}`;
}

export function taskWrite(task: KeyTask): StoreWrite {
  return { key: taskKey(task), value: Buffer.from(JSON.stringify(task)) };
}

/** A new round over everything in the scope. */
export function newRewrap(scope: string, holder: string): RewrapTask {
  return { format: 1, kind: 'rewrap', scope, holder, cursor: undefined, seen: 0, resealed: 0, failed: 0, failures: [] };
}

/**
 * What is under way with master keys: an entry of the store each, which says which instance carries it out and how far it is. Each step commits on
 * condition that the entry is still the one it began with, so of two instances that think it is theirs, one gets no further.
 */
export class KeyTasks {
  constructor(
    private readonly store: StoreDriver,
    private readonly ownId: string,
    private readonly instances: InstanceWatch,
  ) {}

  async list(): Promise<OpenTask[]> {
    const entries = await this.store.list({ prefix: TASK_PREFIX, limit: PAGE });
    return entries.flatMap(({ value, revision }) => {
      const task = parseTask(value);
      return task === undefined ? [] : [{ task, revision }];
    });
  }

  async find<T extends KeyTask>(like: T): Promise<OpenTask<T> | undefined> {
    const entry = await this.store.get(taskKey(like));
    const task = entry && parseTask(entry.value);
    if (entry === undefined || task?.kind !== like.kind) return undefined;
    return { task: { ...like, ...task }, revision: entry.revision };
  }

  /** What a commit that puts this task in needs; whatever it was before, it begins anew. */
  async begin(task: KeyTask): Promise<{ readonly condition: StoreCondition; readonly write: StoreWrite }> {
    const entry = await this.store.get(taskKey(task));
    return { condition: { key: taskKey(task), revision: entry?.revision ?? 0 }, write: taskWrite(task) };
  }

  /** Puts a task in, or leaves the one that is there. */
  async add(task: KeyTask): Promise<void> {
    await this.store.commit({
      conditions: [{ key: taskKey(task), revision: 0 }],
      writes: [taskWrite(task)],
    });
  }

  /** Whether this instance carries the task out from now on: it did already, nobody did, or whoever did is gone. */
  async take({ task, revision }: OpenTask): Promise<boolean> {
    if (task.holder === this.ownId) return true;
    if (task.holder !== '' && !(await this.instances.isGone(task.holder))) return false;
    const conditions = [{ key: taskKey(task), revision }];
    // Gone is who has no entry, so this holds in the commit as well.
    if (task.holder !== '') conditions.push({ key: INSTANCE_PREFIX + task.holder, revision: 0 });
    return (
      (await this.store.commit({ conditions, writes: [taskWrite({ ...task, holder: this.ownId })] })) !== undefined
    );
  }

  /** Leaves a task to whoever comes first. */
  async leave(like: KeyTask): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const found = await this.find(like);
      if (found === undefined || found.task.holder !== this.ownId) return;
      const revision = await this.store.commit({
        conditions: [{ key: taskKey(like), revision: found.revision }],
        writes: [taskWrite({ ...found.task, holder: '' })],
      });
      if (revision !== undefined) return;
    }
    throw new StoreContentionError(taskKey(like));
  }

  /** Calls `onHint` when tasks may have changed. */
  watch(onHint: () => void): () => void {
    return this.store.watch(
      ({ keys }) => {
        if (keys === undefined || keys.some((key) => key.startsWith(TASK_PREFIX))) onHint();
      },
      [TASK_PREFIX],
    );
  }
}

/** Undefined for an entry that cannot be read: nobody can carry it out. */
function parseTask(bytes: Uint8Array): KeyTask | undefined {
  try {
    const task: KeyTask = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return task.format === 1 && (task.kind === 'publish' || task.kind === 'rewrap') ? task : undefined;
  } catch {
    return undefined;
  }
}
