import { CorruptRecordError, isSecretsError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import { Keyring } from '../encryption/keyring.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import { OWN_PREFIX } from './entry-kinds.js';

/** The first entry of a store: its id, and a check value that tells whether the keys at hand are those it was sealed under. */
export const STORE_KEY = 'store';
/** Copies, so that one damaged entry does not keep the whole store shut. */
export const STORE_COPY_KEY = `${OWN_PREFIX}store`;
export const ROOT_KEY_ENTRIES: readonly string[] = [`${OWN_PREFIX}key`, `${OWN_PREFIX}key-copy`];

/** Not a legal secret name, so that nothing sealed under it can be passed off as a secret. */
export const KEY_CHECK = { secretName: '#store', versionId: 'key-check' };
export const ROOT_KEY_PLACE = { secretName: '#store', versionId: 'integrity-key' };

/** The first entry of a store: its id, which everything in it is bound to, and something that only the right master key opens. */
export interface StoreRecord {
  readonly storeId: string;
  readonly createdAt: number;
  /** An envelope. */
  readonly keyCheck: Buffer;
}

export interface StoreOpeningParts {
  readonly store: StoreDriver;
  readonly keys: KeyProvider;
  readonly randomness: Randomness;
  /** For a store that has no first entry yet. */
  readonly newStoreId: string;
  readonly now: number;
}

export interface OpenedStore {
  readonly storeId: string;
  readonly keyring: Keyring;
  /** The first entry, as stored. */
  readonly record: Uint8Array;
  /** Entries that do not open or differ, and were put right from their copies. */
  readonly damaged: readonly string[];
}

/**
 * Opens the first entry of a store, or makes it.
 * @throws KeyMismatchError when the store was sealed under another key
 * @throws CorruptRecordError
 */
export async function openStoreRecord(parts: StoreOpeningParts): Promise<OpenedStore> {
  const { store, keys, randomness } = parts;
  const own = await store.get(STORE_KEY);
  const copy = await store.get(STORE_COPY_KEY);
  const entry = own ?? (copy === undefined ? await initialise(parts) : undefined);
  let failure: unknown;
  for (const candidate of [entry, copy]) {
    if (candidate === undefined) continue;
    try {
      const { storeId, keyCheck } = parseStoreRecord(candidate.value);
      const keyring = new Keyring(keys, storeId, randomness);
      (await keyring.open(KEY_CHECK, keyCheck)).fill(0);
      // The first entry of another store under the same key opens as well; what belongs to this one does not open with it.
      if (copy !== undefined) (await openRootKey(store, keyring, false))?.rootKey.fill(0);
      if (candidate !== copy) {
        const isCopyDamaged = copy !== undefined && !Buffer.from(copy.value).equals(candidate.value);
        if (isCopyDamaged) await heal(store, STORE_COPY_KEY, copy, candidate.value);
        return { storeId, keyring, record: candidate.value, damaged: isCopyDamaged ? [STORE_COPY_KEY] : [] };
      }
      await heal(store, STORE_KEY, own, candidate.value);
      return { storeId, keyring, record: candidate.value, damaged: [STORE_KEY] };
    } catch (error) {
      if (!isSecretsError(error, 'KEY_MISMATCH') && !isSecretsError(error, 'RECORD_CORRUPT')) throw error;
      failure ??= error;
    }
  }
  throw failure ?? new CorruptRecordError('The store', 'its first record is missing after it was written');
}

/**
 * The key from which those of the integrity of the store are derived, for the caller to zero; undefined where there is none.
 * @throws CorruptRecordError when it is there and does not open
 */
export async function openRootKey(
  store: StoreDriver,
  keyring: Keyring,
  heals = true,
): Promise<{ readonly rootKey: Buffer; readonly damaged: readonly string[] } | undefined> {
  const entries = await Promise.all(ROOT_KEY_ENTRIES.map((key) => store.get(key)));
  const damaged: string[] = [];
  let rootKey: Buffer | undefined;
  let sealed: Uint8Array | undefined;
  let failure: unknown;
  for (const [index, key] of ROOT_KEY_ENTRIES.entries()) {
    const entry = entries[index];
    const opened =
      entry &&
      (await keyring.open(ROOT_KEY_PLACE, entry.value).catch((error: unknown) => {
        failure = error;
        return undefined;
      }));
    if (opened === undefined) damaged.push(key);
    else if (rootKey === undefined) [rootKey, sealed] = [opened, entry?.value];
    else opened.fill(0);
  }
  if (failure !== undefined && !isSecretsError(failure)) throw failure;
  if (rootKey === undefined) {
    if (entries.every((entry) => entry === undefined)) return undefined;
    throw failure ?? new CorruptRecordError('The key of the integrity of the store', 'it does not open');
  }
  for (const key of heals ? damaged : [])
    await heal(store, key, entries[ROOT_KEY_ENTRIES.indexOf(key)], sealed ?? new Uint8Array(0));
  return { rootKey, damaged };
}

/** A new key, sealed for its entries. */
export async function sealRootKey(keyring: Keyring, rootKey: Uint8Array): Promise<Buffer> {
  return keyring.seal(ROOT_KEY_PLACE, rootKey);
}

async function heal(store: StoreDriver, key: string, entry: StoreEntry | undefined, value: Uint8Array): Promise<void> {
  // Only saves the next process the trouble.
  await store
    .commit({ conditions: [{ key, revision: entry?.revision ?? 0 }], writes: [{ key, value }] })
    .catch(() => undefined);
}

async function initialise({ store, keys, randomness, newStoreId, now }: StoreOpeningParts): Promise<StoreEntry> {
  const keyCheck = await new Keyring(keys, newStoreId, randomness).seal(KEY_CHECK, randomness.bytes(32));
  const value = printStoreRecord({ storeId: newStoreId, createdAt: now, keyCheck });
  await store.commit({ conditions: [{ key: STORE_KEY, revision: 0 }], writes: [{ key: STORE_KEY, value }] });
  // Another process may have been first: what is stored counts.
  const entry = await store.get(STORE_KEY);
  if (entry === undefined)
    throw new CorruptRecordError('The store', 'its first record is missing after it was written');
  return entry;
}

export function printStoreRecord({ storeId, createdAt, keyCheck }: StoreRecord): Buffer {
  return Buffer.from(JSON.stringify({ format: 1, storeId, createdAt, keyCheck: keyCheck.toString('base64') }));
}

/** @throws CorruptRecordError */
export function parseStoreRecord(bytes: Uint8Array): StoreRecord {
  try {
    const { format, storeId, createdAt, keyCheck } = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (format === 1 && typeof storeId === 'string' && typeof keyCheck === 'string')
      return { storeId, createdAt: Number(createdAt), keyCheck: Buffer.from(keyCheck, 'base64') };
  } catch {
    // Falls through to the one error below.
  }
  throw new CorruptRecordError('The store', 'its first record does not parse; is this the right database and table?');
}
