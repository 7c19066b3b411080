import { setImmediate as nextTurn } from 'node:timers/promises';
import { isSecretsError } from '../foundation/errors.js';
import { distinct } from '../versions/record-writes.js';
import { type GuardedWrite, VALUE_PREFIX, valueContext, valueKey } from '../versions/sealed-values.js';
import type { StoreEntry } from '../store/store-driver.js';
import type { KeyContext } from './key-parts.js';
import type { RewrapReport } from './key-events.js';
import { type OpenTask, type RewrapTask, taskKey, taskWrite } from './key-tasks.js';

/** Values sealed anew in one commit: some stores take little more than a hundred writes. */
const BATCH = 50;
const NAMED_FAILURES = 20;
const SUMMARY_PREFIX = 'cmk/rewrapped/';
/** What is wrong with one value and no reason to leave the others. */
const ITS_OWN_FAULT = ['RECORD_CORRUPT', 'KEY_DISABLED', 'KEY_DESTROYED', 'KEY_INACTIVE', 'KEY_NOT_FOUND'];

interface Page {
  readonly writes: readonly GuardedWrite[];
  readonly failures: readonly string[];
}

/**
 * Seals values anew that are not under the active version of their master key, each with a fresh data key, while the application works. Nothing but
 * the envelope changes: versions, stages and what handles hold stay as they are.
 *
 * Page by page through the store; each page is one commit, together with how far this is, so that whoever goes on after a crash neither leaves out nor
 * repeats any. A value that was removed meanwhile does not come back, and one that does not open stays as it is.
 */
export class Rewrap {
  constructor(private readonly context: KeyContext) {}

  /** Goes on with a task until it is through, the application stops, or another instance has it. Resolves with the report when it is through here. */
  async run(like: RewrapTask): Promise<RewrapReport | undefined> {
    const { tasks, signal, instance, versions } = this.context;
    let limit = BATCH;
    while (!signal.aborted) {
      const open = await tasks.find(like);
      if (open === undefined || open.task.holder !== instance.id) return undefined;
      const { cursor } = open.task;
      const entries = await versions.store.list({
        prefix: VALUE_PREFIX,
        limit,
        ...(cursor === undefined ? {} : { after: cursor }),
      });
      if (entries.length === 0) {
        const report = await this.#finish(open);
        if (report !== undefined) return report;
        continue;
      }
      const committed = await this.#commit(open, entries, await this.#resealed(entries, open.task.scope));
      // Where much changes, smaller steps get through.
      limit = committed ? Math.min(BATCH, limit * 2) : Math.max(1, limit >> 2);
      if (!committed) versions.keys.invalidate();
      // With keys and store in this process nothing else would have its turn.
      await nextTurn();
    }
    return undefined;
  }

  /** Seals the versions of one secret anew, without a task: whoever asks again goes on where it ended. */
  async secret(name: string): Promise<RewrapReport> {
    const { store, keys } = this.context.versions;
    const count = { seen: 0, resealed: 0, failures: new Set<string>() };
    const prefix = valueKey(name, '');
    for (const entry of await store.list({ prefix, limit: 1000 })) {
      count.seen += 1;
      for (let current: StoreEntry | undefined = entry; current !== undefined; current = await store.get(entry.key)) {
        const { writes, failures } = await this.#resealed([current], '*');
        for (const failure of failures) count.failures.add(failure);
        if (writes.length === 0) break;
        const conditions = distinct(writes.flatMap((write) => write.conditions ?? []));
        if ((await store.commit({ conditions, writes: writes.map(plainWrite) })) !== undefined) {
          count.resealed += 1;
          break;
        }
        keys.invalidate();
      }
    }
    return {
      scope: name,
      seen: count.seen,
      resealed: count.resealed,
      failed: count.failures.size,
      failures: [...count.failures].slice(0, NAMED_FAILURES),
    };
  }

  /** The report of the latest round over a scope. */
  async last(scope: string): Promise<(RewrapReport & { readonly endedAt: number }) | undefined> {
    const entry = await this.context.versions.store.get(SUMMARY_PREFIX + scope);
    return entry && JSON.parse(Buffer.from(entry.value).toString('utf8'));
  }

  async #resealed(entries: readonly StoreEntry[], scope: string): Promise<Page> {
    const { versions } = this.context;
    const keyIds = new Map<string, Promise<string | undefined>>();
    const keyOf = (name: string): Promise<string | undefined> => {
      const known = keyIds.get(name) ?? versions.find(name).then((found) => found?.record.key);
      keyIds.set(name, known);
      return known;
    };
    const failures: string[] = [];
    const reseal = async (entry: StoreEntry): Promise<GuardedWrite[]> => {
      const context = valueContext(entry.key);
      if (context === undefined) return [];
      try {
        const keyId = await keyOf(context.secretName);
        if (scope !== '*' && scope !== (keyId ?? (await versions.keys.defaultId()))) {
          // Of another key by now, it may still be sealed under this one.
          if (versions.values.sealedUnder(context, entry)?.id !== scope) return [];
        }
        return [(await versions.values.resealed(context, entry, keyId)) ?? []].flat();
      } catch (error) {
        if (!ITS_OWN_FAULT.some((code) => isSecretsError(error, code))) throw error;
        failures.push(entry.key.slice(VALUE_PREFIX.length));
        return [];
      }
    };
    const writes = (await Promise.all(entries.map(reseal))).flat();
    return { writes, failures };
  }

  async #commit(
    { task, revision }: OpenTask<RewrapTask>,
    entries: readonly StoreEntry[],
    page: Page,
  ): Promise<boolean> {
    const next: RewrapTask = {
      ...task,
      cursor: entries.at(-1)?.key,
      seen: task.seen + entries.length,
      resealed: task.resealed + page.writes.length,
      failed: task.failed + page.failures.length,
      failures: [...task.failures, ...page.failures].slice(0, NAMED_FAILURES),
    };
    const committed = await this.context.versions.store.commit({
      conditions: distinct([
        { key: taskKey(task), revision },
        ...page.writes.flatMap(({ conditions = [] }) => conditions),
      ]),
      writes: [taskWrite(next), ...page.writes.map(plainWrite)],
    });
    return committed !== undefined;
  }

  async #finish({ task, revision }: OpenTask<RewrapTask>): Promise<RewrapReport | undefined> {
    const { versions, clock, events } = this.context;
    const { scope, seen, resealed, failed, failures } = task;
    if (scope === '*' || scope === (await versions.keys.defaultId())) await versions.ownEntries.reseal();
    const report: RewrapReport = { scope, seen, resealed, failed, failures };
    const at = clock.now();
    const summary = Buffer.from(JSON.stringify({ ...report, endedAt: at }));
    const committed = await versions.store.commit({
      conditions: [{ key: taskKey(task), revision }],
      writes: [
        { key: taskKey(task), value: null },
        { key: SUMMARY_PREFIX + scope, value: summary },
      ],
    });
    if (committed === undefined) return undefined;
    events.next({ type: 'rewrapped', at, ...report });
    return report;
  }
}

function plainWrite({ key, value }: GuardedWrite): { key: string; value: Uint8Array | null } {
  return { key, value };
}
