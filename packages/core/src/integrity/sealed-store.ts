import { StoreClosedError } from '../foundation/errors.js';
import type { StoreCommit, StoreDriver, StoreEntry, StoreHint, StoreListOptions } from '../store/store-driver.js';
import {
  checkCommit,
  checkKey,
  checkList,
  InvalidStoreRequestError,
  STORE_VALUE_LIMIT,
} from '../store/store-request.js';
import { type EntryKind, kindOf, LAST_OWN, OWN_PREFIX } from './entry-kinds.js';
import type { ManifestWriter } from './manifest-writer.js';
import type { RecordReader } from './record-reader.js';
import { roomForSeal, SEAL_BYTES, type SealableWrite, sealRecord } from './record-seal.js';
import type { IntegrityKeys } from './integrity-keys.js';

/** What there is once the key of the store is known. */
export interface UnsealedParts {
  readonly keys: IntegrityKeys;
  readonly reader: RecordReader;
  readonly writer: ManifestWriter;
}

/**
 * A store driver over a store driver, which believes nothing that was not written under the key of the store, and notices what was taken away or put back. Those
 * above it see keys, values and revisions as if it were not there.
 */
export class SealedStore implements StoreDriver {
  readonly name: string;
  #unsealed: UnsealedParts | undefined;
  #isClosed = false;

  constructor(readonly inner: StoreDriver) {
    this.name = inner.name;
  }

  /** From here on sealed entries can be read and written. */
  unseal(parts: UnsealedParts): void {
    this.#unsealed = parts;
  }

  async open(): Promise<void> {
    await this.inner.open();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#unsealed?.writer.close();
    await this.inner.close();
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    checkKey(key);
    const kind = kindOf(key);
    if (kind === 'own') return undefined;
    if (kind === 'plain') return this.inner.get(key);
    const { reader } = this.#opened();
    if (kind === 'listed') return reader.get(key);
    const stored = await this.inner.get(key);
    return stored && reader.openSealed(stored);
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    checkList(options);
    const { reader } = this.#opened();
    const { prefix, after = '', limit } = options;
    if (prefix.startsWith(OWN_PREFIX)) return [];
    const page = await reader.list(options);
    if (!page.some(({ key }) => kindOf(key) === 'own')) return page;
    // Our own entries stand among the others.
    const before = page.filter(({ key }) => key < OWN_PREFIX);
    const left = limit - before.length;
    if (left === 0) return before;
    const rest = await reader.list({ prefix, after: after > LAST_OWN ? after : LAST_OWN, limit: left });
    return [...before, ...rest];
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    const { writer, keys } = this.#opened();
    checkCommit(commit);
    const { conditions, writes } = commit;
    for (const { key } of conditions) refuseOwn(key, kindOf(key));
    const kinds = writes.map(({ key, value }) => checkedKind(key, value));
    if (kinds.includes('listed')) {
      return writer.commit({
        conditions: conditions.map(({ key, revision }) => ({ key, revision })),
        writes: writes.map(({ key, value }, index) => sealable(key, kinds[index] ?? 'listed', value)),
      });
    }
    const sealed = writes.map(({ key, value }, index) =>
      value === null || kinds[index] === 'plain'
        ? { key, value }
        : { key, value: sealRecord(keys, key, value, 0).value },
    );
    return this.inner.commit({ conditions, writes: sealed });
  }

  async revision(): Promise<number> {
    return this.inner.revision();
  }

  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    return this.inner.watch((hint) => {
      if (hint.keys === undefined) return onHint(hint);
      const keys = hint.keys.filter((key) => kindOf(key) !== 'own');
      if (keys.length > 0) onHint({ keys });
    }, prefixes);
  }

  #opened(): UnsealedParts {
    if (this.#unsealed === undefined || this.#isClosed) throw new StoreClosedError(this.name);
    return this.#unsealed;
  }
}

function refuseOwn(key: string, kind: EntryKind): void {
  if (kind === 'own') throw new InvalidStoreRequestError(`${key} belongs to the integrity of the store.`);
}

function checkedKind(key: string, value: Uint8Array | null): EntryKind {
  const kind = kindOf(key);
  refuseOwn(key, kind);
  if (value === null || kind === 'plain' || value.length + SEAL_BYTES <= STORE_VALUE_LIMIT) return kind;
  throw new InvalidStoreRequestError(
    `The value for ${key} has ${value.length} bytes; a sealed store holds at most ${STORE_VALUE_LIMIT - SEAL_BYTES} under one key.`,
  );
}

/** The caller's bytes are its own again as soon as it has called. */
function sealable(key: string, kind: EntryKind, value: Uint8Array | null): SealableWrite {
  if (value === null) return { key, kind, value };
  return { key, kind, value: kind === 'plain' ? Buffer.from(value) : roomForSeal(value) };
}
