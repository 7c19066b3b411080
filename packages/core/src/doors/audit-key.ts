import type { AuditKey } from '../audit/audit-chain.js';
import { CorruptRecordError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { VersionStore } from '../versions/version-store.js';

export const AUDIT_KEY_ENTRY = 'audit/key';
const KEY_BYTES = 32;

/**
 * The key of this application's audit logs: made on the first start and kept in the store, sealed, so that whoever has the store and the master key can
 * check every log, and whoever has the store alone cannot write one.
 * @throws CorruptRecordError
 */
export async function openAuditKey(versions: VersionStore, randomness: Randomness): Promise<AuditKey> {
  const { store } = versions;
  const found = await store.get(AUDIT_KEY_ENTRY);
  if (found === undefined) {
    const fresh = randomness.bytes(KEY_BYTES);
    try {
      const value = await versions.sealEntry(AUDIT_KEY_ENTRY, fresh);
      const conditions = [{ key: AUDIT_KEY_ENTRY, revision: 0 }];
      await store.commit({ conditions, writes: [{ key: AUDIT_KEY_ENTRY, value }] });
    } finally {
      fresh.fill(0);
    }
  }
  // Another process may have been first: what is stored counts.
  const entry = found ?? (await store.get(AUDIT_KEY_ENTRY));
  if (entry === undefined)
    throw new CorruptRecordError('The key of the audit log', 'it is missing after it was written');
  const key = await versions.openEntry(AUDIT_KEY_ENTRY, entry.value);
  if (key.length !== KEY_BYTES) throw new CorruptRecordError('The key of the audit log', 'it is not a key');
  return key;
}
