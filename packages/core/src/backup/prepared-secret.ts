import type { RestoredPolicy } from '../access/restored-policies.js';
import { isSecretsError } from '../foundation/errors.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import type { RotationState } from '../rotation/rotation-state.js';
import type { StoreCondition, StoreWrite } from '../store/store-driver.js';
import { RECORD_PREFIX, recordWrites } from '../versions/record-writes.js';
import { type GuardedWrite, valueKey } from '../versions/sealed-values.js';
import type { SecretRecord } from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';
import type { BackupUnit } from './verify-backup.js';

/** What the commit takes that brings a secret into a store. */
export interface PreparedSecret {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
  /** Its values, sealed anew. */
  readonly sealed: readonly GuardedWrite[];
  /** To be set before. */
  readonly policy: RestoredPolicy | undefined;
  /** The master key that it had, where this store has none that is called so. */
  readonly missingKey: string | undefined;
}

/** Undefined when there is a secret of that name, or something of one is under way. */
export async function prepareSecret(
  { versions, journal }: { readonly versions: VersionStore; readonly journal: RotationJournal },
  { secret, values }: BackupUnit,
): Promise<PreparedSecret | undefined> {
  const { record, rotation, policy } = secret;
  const { name } = record;
  const key = RECORD_PREFIX + name;
  if ((await versions.store.get(key)) !== undefined) return undefined;
  const counted = await versions.counted(name);
  const journalled = await journal.restoring(name, rotation && restoredJournal(rotation, counted));
  if (journalled === undefined) return undefined;
  const keyId = record.key === undefined ? undefined : await resolveKey(versions, record.key);
  const sealed: GuardedWrite[] = [];
  for (const [index, { id }] of record.versions.entries()) {
    const entry = { key: valueKey(name, id), context: { secretName: name, versionId: id } };
    sealed.push(await versions.values.seal(entry, values[index] ?? Buffer.alloc(0), keyId));
  }
  const restored = restoredRecord(record, counted, keyId);
  return {
    conditions: [{ key, revision: 0 }, journalled.condition],
    writes: [...recordWrites(undefined, restored, versions.expiryWarnings), ...journalled.writes],
    sealed,
    policy: policy && { ...policy, kind: 'secret', name },
    missingKey: keyId === undefined ? record.key : undefined,
  };
}

async function resolveKey({ keys }: VersionStore, name: string): Promise<string | undefined> {
  try {
    return await keys.records.resolve(name);
  } catch (error) {
    if (isSecretsError(error, 'KEY_NOT_FOUND') || isSecretsError(error, 'KEY_REQUEST_INVALID')) return undefined;
    throw error;
  }
}

/**
 * A secret as it comes into a store, where one of its name may have been before: versions and promotions are counted from `counted` on, so that whoever knew that one
 * takes what he finds now for newer.
 */
function restoredRecord(record: SecretRecord, counted: number, keyId: string | undefined): SecretRecord {
  const { key: _wanted, ...rest } = record;
  return {
    ...rest,
    ...(keyId === undefined ? {} : { key: keyId }),
    nextSequence: record.nextSequence + counted,
    promotion: record.promotion + counted,
    versions: record.versions.map((version) => ({ ...version, sequence: version.sequence + counted })),
  };
}

/** Its journal, counted in the same way. What was under way goes on from there, as after a crash of every instance. */
function restoredJournal(state: RotationState, counted: number): RotationState {
  return {
    ...state,
    obligations: state.obligations.map((one) => ({ ...one, promotion: one.promotion + counted })),
  };
}
