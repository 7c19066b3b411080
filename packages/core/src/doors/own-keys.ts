import type { PolicySeal } from '../access/policy-records.js';
import { BOX_OVERHEAD_BYTES, KEY_BYTES, NONCE_BYTES, openBox, writeBox } from '../encryption/aes-gcm.js';
import { CorruptRecordError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { VersionStore } from '../versions/version-store.js';

/** Under these keys of the store stand the keys that the doors need: sealed, each under a data key of its own, like a value. */
export const AUDIT_KEY_ENTRY = 'audit/key';
export const POLICY_KEY_ENTRY = 'policy/key';
/** What backups are signed with. */
export const BACKUP_KEY_ENTRY = 'backup/key';

/**
 * A key of this application, made on the first start and kept in the store: whoever has the store and the master key has it, and whoever has the store
 * alone has not.
 * @throws CorruptRecordError
 */
export async function openOwnKey(versions: VersionStore, storeKey: string, randomness: Randomness): Promise<Buffer> {
  const { store } = versions;
  const found = await store.get(storeKey);
  if (found === undefined) {
    const fresh = randomness.bytes(KEY_BYTES);
    try {
      const value = await versions.sealEntry(storeKey, fresh);
      await store.commit({ conditions: [{ key: storeKey, revision: 0 }], writes: [{ key: storeKey, value }] });
    } finally {
      fresh.fill(0);
    }
  }
  // Another process may have been first: what is stored counts.
  const entry = found ?? (await store.get(storeKey));
  if (entry === undefined) throw new CorruptRecordError(storeKey, 'it is missing after it was written');
  const key = await versions.openEntry(storeKey, entry.value);
  if (key.length !== KEY_BYTES) throw new CorruptRecordError(storeKey, 'it is not a key');
  return key;
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
