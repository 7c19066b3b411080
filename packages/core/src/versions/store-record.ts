import { CorruptRecordError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import { Keyring } from '../encryption/keyring.js';
import type { StoreDriver } from '../store/store-driver.js';

/** The first entry of a store: its id, which everything in it is bound to, and something that only the right master key opens. */
export interface StoreRecord {
  readonly storeId: string;
  readonly createdAt: number;
  /** An envelope. */
  readonly keyCheck: Buffer;
}

export const STORE_KEY = 'store';
/** Not a legal secret name, so that the check value can never be passed off as a secret. */
export const KEY_CHECK = { secretName: '#store', versionId: 'key-check' };

const KEY_CHECK_BYTES = 32;

/** The keyring of a store, which gets its first record where it has none. @throws KeyMismatchError when it was sealed under another key */
export async function openKeyring(
  store: StoreDriver,
  provider: KeyProvider,
  randomness: Randomness,
  fresh: { readonly storeId: string; readonly createdAt: number },
): Promise<Keyring> {
  const value = (await store.get(STORE_KEY))?.value ?? (await initialise(store, provider, randomness, fresh));
  const { storeId, keyCheck } = parseStoreRecord(value);
  const keyring = new Keyring(provider, storeId, randomness);
  (await keyring.open(KEY_CHECK, keyCheck)).fill(0);
  return keyring;
}

export function printStoreRecord({ storeId, createdAt, keyCheck }: StoreRecord): Buffer {
  return Buffer.from(JSON.stringify({ format: 1, storeId, createdAt, keyCheck: keyCheck.toString('base64') }));
}

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

async function initialise(
  store: StoreDriver,
  provider: KeyProvider,
  randomness: Randomness,
  { storeId, createdAt }: { readonly storeId: string; readonly createdAt: number },
): Promise<Uint8Array> {
  const keyCheck = await new Keyring(provider, storeId, randomness).seal(KEY_CHECK, randomness.bytes(KEY_CHECK_BYTES));
  const value = printStoreRecord({ storeId, createdAt, keyCheck });
  await store.commit({ conditions: [{ key: STORE_KEY, revision: 0 }], writes: [{ key: STORE_KEY, value }] });
  // Another process may have been first: what is stored counts.
  const entry = await store.get(STORE_KEY);
  if (entry === undefined)
    throw new CorruptRecordError('The store', 'its first record is missing after it was written');
  return entry.value;
}
