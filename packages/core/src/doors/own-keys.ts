import type { PolicySeal } from '../access/policy-records.js';
import { BOX_OVERHEAD_BYTES, KEY_BYTES, NONCE_BYTES, openBox, writeBox } from '../encryption/aes-gcm.js';
import { CorruptRecordError, StoreContentionError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreEntry } from '../store/store-driver.js';
import type { VersionStore } from '../versions/version-store.js';

/** Under these keys of the store stand the keys that the doors need: sealed, each under a data key of its own, like a value. */
export const AUDIT_KEY_ENTRY = 'audit/key';
export const POLICY_KEY_ENTRY = 'policy/key';
/** What backups are signed with. */
export const BACKUP_KEY_ENTRY = 'backup/key';

const ATTEMPTS = 50;

/**
 * A key of this application, made on the first start and kept in the store: whoever has the store and the master key has it, and whoever has the store
 * alone has not.
 * @throws CorruptRecordError, StoreContentionError
 */
export async function openOwnKey(versions: VersionStore, storeKey: string, randomness: Randomness): Promise<Buffer> {
  const entry = await foundOrMade(versions, storeKey, randomness);
  const key = await versions.openEntry(storeKey, entry.value);
  if (key.length !== KEY_BYTES) throw new CorruptRecordError(storeKey, 'it is not a key');
  return key;
}

/** Of several processes the first one makes it, under whatever master key seals by then. */
async function foundOrMade(versions: VersionStore, storeKey: string, randomness: Randomness): Promise<StoreEntry> {
  const { store, keys } = versions;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await store.get(storeKey);
    if (found !== undefined) return found;
    const fresh = randomness.bytes(KEY_BYTES);
    try {
      const { conditions = [], ...write } = await versions.sealEntry(storeKey, fresh);
      const isAbsent = { key: storeKey, revision: 0 };
      // Another process was first, or the master key is not the one to seal under any more.
      if ((await store.commit({ conditions: [isAbsent, ...conditions], writes: [write] })) === undefined)
        keys.invalidate();
    } finally {
      fresh.fill(0);
    }
  }
  throw new StoreContentionError(storeKey);
}

/** Policies under a key of their own, each bound to its place in the store. So that a master key can go without a policy being written anew. */
export function policySeal(key: Uint8Array, randomness: Randomness): PolicySeal {
  return {
    seal: async (storeKey, plaintext) => {
      const box = Buffer.alloc(plaintext.length + BOX_OVERHEAD_BYTES);
      writeBox(box, 0, key, randomness.bytes(NONCE_BYTES), Buffer.from(storeKey), plaintext);
      return box;
    },
    open: async (storeKey, sealed) => {
      const plaintext = openBox(Buffer.from(sealed), key, Buffer.from(storeKey));
      if (plaintext === undefined) throw new CorruptRecordError(storeKey, 'it was not sealed here under this key');
      return plaintext;
    },
  };
}
