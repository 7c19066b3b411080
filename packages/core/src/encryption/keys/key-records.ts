import { StoreContentionError } from '../../foundation/errors.js';
import { dueWrites } from '../../store/due-entries.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../../store/store-driver.js';
import { KeyNotFoundError, KeyRequestError } from './key-errors.js';
import {
  checkAlias,
  checkKeyId,
  type CmkRecord,
  KEY_ALIAS_PREFIX,
  KEY_RECORD_PREFIX,
  keyDueAt,
  parseKeyRecord,
} from './key-record.js';

/** What an edit wants committed: the new record, and whatever must happen in the same commit. */
export interface KeyRecordEdit {
  readonly record: CmkRecord;
  readonly conditions?: readonly StoreCondition[];
  readonly writes?: readonly StoreWrite[];
}

const ATTEMPTS = 50;
const LONGEST_ALIAS = 128;

/** What is due of a key, in the index of everything that will be due. */
export function keyDueName(id: string): string {
  return `cmk:${id}`;
}

/** The records of master keys in the store, each changed by compare-and-set. */
export class KeyRecords {
  constructor(private readonly store: StoreDriver) {}

  async find(id: string): Promise<{ record: CmkRecord; revision: number } | undefined> {
    const entry = await this.store.get(KEY_RECORD_PREFIX + checkKeyId(id));
    return entry && { record: parseKeyRecord(id, entry.value), revision: entry.revision };
  }

  /** @throws KeyNotFoundError */
  async get(id: string): Promise<{ record: CmkRecord; revision: number }> {
    const found = await this.find(id);
    if (found === undefined) throw new KeyNotFoundError(id);
    return found;
  }

  /**
   * The id of a key that is called by its id or by an alias.
   * @throws KeyNotFoundError
   */
  async resolve(key: string): Promise<string> {
    if ((await this.find(key)) !== undefined) return key;
    const id = key.length > LONGEST_ALIAS ? undefined : await this.aliased(key);
    if (id === undefined) throw new KeyNotFoundError(key);
    return id;
  }

  /** The id that an alias stands for. */
  async aliased(alias: string): Promise<string | undefined> {
    const entry = await this.store.get(KEY_ALIAS_PREFIX + alias);
    return entry && Buffer.from(entry.value).toString('utf8');
  }

  /** In the order of their ids. */
  async list(options: { after?: string; limit: number }): Promise<CmkRecord[]> {
    const entries = await this.store.list({
      prefix: KEY_RECORD_PREFIX,
      limit: options.limit,
      ...(options.after === undefined ? {} : { after: KEY_RECORD_PREFIX + options.after }),
    });
    return entries.map(({ key, value }) => parseKeyRecord(key.slice(KEY_RECORD_PREFIX.length), value));
  }

  /**
   * Changes a key by compare-and-set: `edit` is asked again when another writer was first. Returning undefined from it leaves everything as it is.
   * @throws KeyNotFoundError, StoreContentionError
   */
  async change(
    id: string,
    edit: (record: CmkRecord) => KeyRecordEdit | undefined | Promise<KeyRecordEdit | undefined>,
  ): Promise<CmkRecord> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { record: before, revision } = await this.get(id);
      const wanted = await edit(before);
      if (wanted === undefined) return before;
      if (await this.#commit(before, revision, wanted)) return wanted.record;
    }
    throw new StoreContentionError(`master key ${id}`);
  }

  /** Adds a key, and whatever else in the same commit; false when there is one of that id, or one of its aliases is taken. */
  add(record: CmkRecord, also: readonly StoreWrite[] = []): Promise<boolean> {
    const aliases = record.aliases.map((alias) => ({ key: KEY_ALIAS_PREFIX + alias, value: Buffer.from(record.id) }));
    return this.#commit(undefined, 0, {
      record,
      conditions: aliases.map(({ key }) => ({ key, revision: 0 })),
      writes: [...aliases, ...also],
    });
  }

  /** Points an alias to a key, or, with undefined, to none. It leaves the key that it pointed to in the same commit. */
  async setAlias(alias: string, id: string | undefined): Promise<void> {
    const key = KEY_ALIAS_PREFIX + checkAlias(alias);
    if ((await this.store.get(KEY_RECORD_PREFIX + alias)) !== undefined)
      throw new KeyRequestError(`${alias} is the id of a key, so it cannot be an alias.`);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const from = entry && Buffer.from(entry.value).toString('utf8');
      if (from === id) return;
      const changed = await Promise.all(
        [from, id].flatMap((one) => (one === undefined ? [] : [this.#withAlias(one, alias, one === id)])),
      );
      const revision = await this.store.commit({
        conditions: [{ key, revision: entry?.revision ?? 0 }, ...changed.map(({ condition }) => condition)],
        writes: [{ key, value: id === undefined ? null : Buffer.from(id) }, ...changed.map(({ write }) => write)],
      });
      if (revision !== undefined) return;
    }
    throw new StoreContentionError(`the alias ${alias}`);
  }

  async #withAlias(id: string, alias: string, has: boolean): Promise<{ condition: StoreCondition; write: StoreWrite }> {
    const { record, revision } = await this.get(id);
    const others = record.aliases.filter((one) => one !== alias);
    const changed = { ...record, aliases: has ? [...others, alias] : others };
    return { condition: { key: KEY_RECORD_PREFIX + id, revision }, write: recordWrite(changed) };
  }

  async #commit(before: CmkRecord | undefined, revision: number, wanted: KeyRecordEdit): Promise<boolean> {
    const { record, conditions = [], writes = [] } = wanted;
    const committed = await this.store.commit({
      conditions: [{ key: KEY_RECORD_PREFIX + record.id, revision }, ...conditions],
      writes: [
        recordWrite(record),
        ...dueWrites(keyDueName(record.id), before && keyDueAt(before), keyDueAt(record)),
        ...writes,
      ],
    });
    return committed !== undefined;
  }
}

function recordWrite(record: CmkRecord): StoreWrite {
  return { key: KEY_RECORD_PREFIX + record.id, value: Buffer.from(JSON.stringify(record)) };
}
