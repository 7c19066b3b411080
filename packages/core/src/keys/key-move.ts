import type { CmkRef, KeyProvider } from '../encryption/key-provider.js';
import { keysOf } from '../encryption/moving-keys.js';
import { KeyRequestError } from '../encryption/keys/key-errors.js';
import { activeVersion, type CmkRecord, createdVersion, retire } from '../encryption/keys/key-record.js';
import type { RewrapReport } from './key-events.js';
import type { KeyContext } from './key-parts.js';
import type { MoveKeysOptions } from './key-requests.js';
import type { PublicationTask } from './key-tasks.js';
import type { KeyVersions } from './key-versions.js';

const PAGE = 100;

/** What moving from one key provider to the other has come to. */
export interface KeyMoveReport {
  /** The keys of the old provider, each with the one that took its place. */
  readonly keys: readonly { readonly from: string; readonly to: string }[];
  readonly rewrapped: RewrapReport;
  /** Some of what is still sealed under keys of the old provider. When it is empty, the old provider is needed no more. */
  readonly left: readonly string[];
}

/** What the move needs of the other parts. */
export interface KeyMoveSteps {
  readonly versions: KeyVersions;
  /** Resolves once a version is in use. */
  published(task: PublicationTask): Promise<void>;
  /** Enters a key of the provider and resolves once it is in use. */
  enter(id: string, description: string): Promise<unknown>;
  rewrapAll(): Promise<RewrapReport>;
  /** Some of what is sealed under versions of a key. */
  uses(id: string, versions: ReadonlySet<number>): Promise<string[]>;
}

/**
 * Moves everything that is sealed from the keys of one provider to those of another. Which key takes the place of which is kept in the record of the old one, so
 * whoever goes on after a crash takes the same; every other step does nothing where it was done.
 */
export class KeyMove {
  constructor(
    private readonly context: KeyContext,
    private readonly steps: KeyMoveSteps,
  ) {}

  async run(options: MoveKeysOptions): Promise<KeyMoveReport> {
    const { moving } = this.context.versions.provider;
    if (moving === undefined)
      throw new KeyRequestError(
        'There is one key provider only. Start every instance with { keys: movingKeys({ from, to }) } first.',
      );
    const here = await keysOf(moving.from);
    const old = (await this.#records()).filter(({ id }) => here.some((cmk) => cmk.id === id));
    // Whatever the new keys lack is found before anything is changed for good.
    const pairs = await this.#pairs(old, moving.to, options);
    for (const { from, to } of pairs) await this.#prepare(from, to);
    for (const { from, to } of pairs) await this.#replace(from, to);
    const rewrapped = await this.steps.rewrapAll();
    return { keys: pairs, rewrapped, left: await this.#left(here) };
  }

  /** Which key takes the place of which: the same as before, where that was decided. */
  async #pairs(
    old: readonly CmkRecord[],
    provider: KeyProvider,
    options: MoveKeysOptions,
  ): Promise<{ from: string; to: string }[]> {
    const pairs: { from: string; to: string }[] = [];
    const there = new Set((await keysOf(provider)).map(({ id }) => id));
    const defaultId = await this.#store.aliased('default');
    for (const record of old) {
      const named = options.into?.[record.id] ?? record.aliases.map((alias) => options.into?.[alias]).find(isText);
      if (named !== undefined && !there.has(named))
        throw new KeyRequestError(
          `The key provider ${provider.name} has no key ${named}, which ${record.id} is to go to.`,
        );
      const decided = record.movedTo !== undefined && there.has(record.movedTo) ? record.movedTo : undefined;
      const to =
        decided ?? named ?? (record.id === defaultId ? (await provider.active()).id : await made(record, provider));
      pairs.push({ from: record.id, to: await this.#decide(record.id, to, there) });
    }
    return pairs;
  }

  /** Of several instances, the first one decides. */
  async #decide(id: string, to: string, there: ReadonlySet<string>): Promise<string> {
    const { movedTo = to } = await this.#store.change(id, (record) => {
      refuseUnpublished(record);
      if (record.movedTo === to || (record.movedTo !== undefined && there.has(record.movedTo))) return undefined;
      return { record: { ...record, movedTo: to } };
    });
    return movedTo;
  }

  /** The new key, in use by nobody yet, and known to every instance. */
  async #prepare(from: string, to: string): Promise<void> {
    const found = await this.#store.find(to);
    if (found === undefined) {
      const { record } = await this.#store.get(from);
      await this.steps.enter(to, record.description);
      return;
    }
    const waiting = createdVersion(found.record);
    const { versions } = this.steps;
    if (waiting !== undefined) return this.steps.published(versions.task({ id: to, version: waiting.version }, false));
    if (found.record.movedTo !== undefined)
      // Moved away from before, it is come back to.
      await this.#store.change(to, ({ movedTo: _before, ...record }) => ({ record }));
    if (activeVersion(found.record) === undefined)
      await this.steps.published(await versions.add(to, false, (record) => versions.next(record)));
  }

  /** From here on nothing new is sealed under the old key; what is, still opens. */
  async #replace(from: string, to: string): Promise<void> {
    const { versions, clock, events } = this.context;
    for (let isRetired = false; !isRetired;) {
      const { record } = await this.#store.get(from);
      for (const alias of record.aliases) await this.#store.setAlias(alias, to);
      await this.#store.change(from, (before) => {
        refuseUnpublished(before);
        isRetired = before.aliases.length === 0;
        return isRetired && activeVersion(before) !== undefined ? { record: retire(before) } : undefined;
      });
    }
    versions.keys.invalidate();
    await this.#renameIn(from, to);
    events.next({ type: 'moved', at: clock.now(), id: from, to });
  }

  /** Secrets that name the old key name the new one. */
  async #renameIn(from: string, to: string): Promise<void> {
    const { versions } = this.context;
    for (let after: string | undefined; ;) {
      const page = await versions.list({ prefix: '', limit: PAGE, ...(after === undefined ? {} : { after }) });
      for (const { name, record } of page) {
        if (record?.key !== from) continue;
        await versions.change(name, (before) =>
          before?.key === from ? { record: { ...before, key: to } } : undefined,
        );
      }
      if (page.length < PAGE) return;
      after = page.at(-1)?.name;
    }
  }

  async #left(here: readonly CmkRef[]): Promise<string[]> {
    const left: string[] = [];
    for (const id of new Set(here.map((cmk) => cmk.id))) {
      const record = (await this.#store.find(id))?.record;
      const versions = [...here.filter((cmk) => cmk.id === id), ...(record?.versions ?? [])];
      left.push(...(await this.steps.uses(id, new Set(versions.map(({ version }) => version)))));
    }
    return left;
  }

  async #records(): Promise<CmkRecord[]> {
    const records: CmkRecord[] = [];
    for (let after: string | undefined; ;) {
      const page = await this.#store.list({ limit: PAGE, ...(after === undefined ? {} : { after }) });
      records.push(...page);
      if (page.length < PAGE) return records;
      after = page.at(-1)?.id;
    }
  }

  get #store() {
    return this.context.versions.keys.records;
  }
}

async function made(record: CmkRecord, provider: KeyProvider): Promise<string> {
  if (provider.make !== undefined) return (await provider.make()).id;
  throw new KeyRequestError(
    `The key provider ${provider.name} makes no keys itself. Say which of its keys takes the place of ${record.id}: keys.move({ into: { '${record.aliases[0] ?? record.id}': … } }).`,
  );
}

/** It would come into use after the others are out of it. */
function refuseUnpublished(record: CmkRecord): void {
  if (createdVersion(record) === undefined) return;
  throw new KeyRequestError(`A new version of ${record.id} is being published. Wait until it is in use, then move.`);
}

function isText(text: string | undefined): text is string {
  return text !== undefined;
}
