import { CorruptRecordError, StageError, VersionNotFoundError } from '../foundation/errors.js';
import type { RotationPolicy } from './rotation-policy.js';
import { checkSecretName } from './secret-name.js';

/**
 * Where a version stands towards its target. `live` may be in use; `draining` was replaced by a rotation and still has to be retired;
 * `retiring` is being made invalid and is no longer handed out for new connections; `retired` is known to be refused by the target.
 */
export type VersionState = 'live' | 'draining' | 'retiring' | 'retired';

export interface VersionRecord {
  readonly id: string;
  /** Counts the versions of a secret from 1, in the order they were made. */
  readonly sequence: number;
  readonly createdAt: number;
  readonly expiresAt?: number;
  readonly state: VersionState;
  /** When its value is destroyed, unless it gets a stage before that. */
  readonly destroyAt?: number;
  /** How long before its end the latest warning of it was due, in milliseconds; 0 once it was told to have expired. */
  readonly warned?: number;
}

/** Everything about a secret but its values: the head, changed by compare-and-set. */
export interface SecretRecord {
  readonly format: 1;
  readonly name: string;
  readonly description: string;
  readonly type: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Each new version expires this long after it was made; no TTL when missing. */
  readonly ttlMs?: number;
  readonly rotation?: RotationPolicy;
  /** The id of the master key its values are sealed under; the default key when missing. */
  readonly key?: string;
  /** A version that has lost its last stage is destroyed this much later; only by the number of versions when missing. */
  readonly destroyOldAfterMs?: number;
  /** It is to be removed, and gives no value until then. */
  readonly deletion?: SecretDeletion;
  /** Of a credential that belongs to one instance: the secret it stands for there, and whose it is. */
  readonly lease?: LeaseOwner;
  readonly nextSequence: number;
  /** Grows by one each time `current` moves. */
  readonly promotion: number;
  /** True when the latest move put `current` back to an older version. */
  readonly rolledBack: boolean;
  readonly versions: readonly VersionRecord[];
  /** Label → version id. Pairs rather than an object, since labels are the user's words. */
  readonly stages: readonly (readonly [stage: string, versionId: string])[];
}

export interface SecretDeletion {
  readonly requestedAt: number;
  readonly purgeAt: number;
}

export interface LeaseOwner {
  readonly of: string;
  readonly instanceId: string;
}

/** So many versions without a stage are kept; older ones are removed as new ones come. */
const KEPT_UNSTAGED_VERSIONS = 10;
const STAGE = /^[A-Za-z0-9_-]{1,64}$/;
const STAGE_LIMIT = 20;

/** Stages with a meaning of their own, moved by the manager and the engine only. */
export const RESERVED_STAGES: readonly string[] = ['current', 'previous', 'pending'];

export function parseSecretRecord(name: string, bytes: Uint8Array): SecretRecord {
  let record: SecretRecord;
  try {
    record = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw new CorruptRecordError(`The record of ${name}`, 'it does not parse', name);
  }
  if (
    record?.format !== 1 ||
    record.name !== name ||
    !Array.isArray(record.versions) ||
    !Array.isArray(record.stages)
  ) {
    throw new CorruptRecordError(`The record of ${name}`, 'it is not a secret of this name', name);
  }
  return record;
}

/** The name of an instance's own credential of a secret of leases. */
export function leaseName(secretName: string, instanceId: string): string {
  return checkSecretName(`${secretName}@${instanceId}`);
}

/**
 * The record of an instance's own credential, which has no version yet. Versions and promotions are counted from `counted` on: those who knew a
 * record of this name that was removed must find nothing in it that they have seen before.
 */
export function addLease(
  of: string,
  instanceId: string,
  rotation: RotationPolicy,
  now: number,
  counted: number,
  key?: string,
): SecretRecord {
  return {
    format: 1,
    name: leaseName(of, instanceId),
    description: `The credential of instance ${instanceId} for ${of}`,
    type: 'lease',
    tags: {},
    createdAt: now,
    updatedAt: now,
    rotation,
    ...(key === undefined ? {} : { key }),
    lease: { of, instanceId },
    nextSequence: counted + 1,
    promotion: counted,
    rolledBack: false,
    versions: [],
    stages: [],
  };
}

/** Whether the secret has no value of its own, but one for each instance. */
export function isLeased({ rotation, lease }: SecretRecord): boolean {
  return rotation?.lease !== undefined && lease === undefined;
}

export function versionAt(record: SecretRecord, stage: string): VersionRecord | undefined {
  const id = record.stages.find(([label]) => label === stage)?.[1];
  return id === undefined ? undefined : record.versions.find((version) => version.id === id);
}

export function stagesOf(record: SecretRecord, versionId: string): string[] {
  return record.stages.filter(([, id]) => id === versionId).map(([stage]) => stage);
}

export function findVersion(record: SecretRecord, versionId: string): VersionRecord | undefined {
  return record.versions.find((version) => version.id === versionId);
}

export function requireVersion(record: SecretRecord, versionId: string): VersionRecord {
  const version = findVersion(record, versionId);
  if (version === undefined) throw new VersionNotFoundError(record.name, `version ${versionId}`);
  return version;
}

/** The id the next version gets unless the caller names one: `v1`, `v2`… */
export function nextVersionId(record: SecretRecord): string {
  let sequence = record.nextSequence;
  while (findVersion(record, `v${sequence}`) !== undefined) sequence += 1;
  return `v${sequence}`;
}

export function addVersion(record: SecretRecord, id: string, now: number, ttlMs = record.ttlMs): SecretRecord {
  const version: VersionRecord = {
    id,
    sequence: record.nextSequence,
    createdAt: now,
    state: 'live',
    ...(ttlMs === undefined ? {} : { expiresAt: now + ttlMs }),
  };
  return { ...record, nextSequence: record.nextSequence + 1, updatedAt: now, versions: [...record.versions, version] };
}

export function setVersionState(record: SecretRecord, versionId: string, state: VersionState): SecretRecord {
  return {
    ...record,
    versions: record.versions.map((version) => (version.id === versionId ? { ...version, state } : version)),
  };
}

/** The record without a version that nothing points at any more. */
export function removeVersion(record: SecretRecord, versionId: string): SecretRecord {
  return {
    ...record,
    versions: record.versions.filter(({ id }) => id !== versionId),
    stages: record.stages.filter(([, id]) => id !== versionId),
  };
}

/** Points `stage` at a version, or nowhere. */
export function setStage(record: SecretRecord, stage: string, versionId: string | undefined): SecretRecord {
  const others = record.stages.filter(([label]) => label !== stage);
  return { ...record, stages: versionId === undefined ? others : [...others, [stage, versionId]] };
}

/**
 * Makes a version current and the one before it previous, in one step; takes `pending` off it. Moving to an older version is a recorded
 * rollback. Promoting what is current already changes nothing.
 */
export function promote(record: SecretRecord, versionId: string, now: number): SecretRecord {
  const next = requireVersion(record, versionId);
  const before = versionAt(record, 'current');
  if (before?.id === versionId) return record;
  let promoted = setStage(record, 'current', versionId);
  if (before !== undefined) promoted = setStage(promoted, 'previous', before.id);
  if (versionAt(record, 'pending')?.id === versionId) promoted = setStage(promoted, 'pending', undefined);
  return {
    ...promoted,
    promotion: record.promotion + 1,
    rolledBack: before !== undefined && next.sequence < before.sequence,
    updatedAt: now,
  };
}

/** Checks a label of the user's own. */
export function checkCustomStage(record: SecretRecord, stage: string): void {
  if (!STAGE.test(stage)) {
    throw new StageError(
      record.name,
      `${JSON.stringify(stage.slice(0, 80))} is not a stage: use 1 to 64 characters of A-Z a-z 0-9 _ -`,
    );
  }
  if (RESERVED_STAGES.includes(stage)) {
    throw new StageError(
      record.name,
      `The stage ${stage} of ${record.name} moves by promotion only: put a value, rotate, or move \`current\` to a version with updateVersionStage.`,
    );
  }
  if (record.stages.length >= STAGE_LIMIT && !record.stages.some(([label]) => label === stage)) {
    throw new StageError(record.name, `${record.name} has ${STAGE_LIMIT} stages already; remove one first.`);
  }
}

/** Drops old versions nobody can want back: without a stage, nothing left to retire, and beyond the newest few of their kind. */
export function prune(record: SecretRecord): { record: SecretRecord; removed: string[] } {
  const staged = new Set(record.stages.map(([, id]) => id));
  const droppable = record.versions.filter(
    (version) => !staged.has(version.id) && version.state !== 'draining' && version.state !== 'retiring',
  );
  const removed = new Set(
    droppable.slice(0, Math.max(0, droppable.length - KEPT_UNSTAGED_VERSIONS)).map((version) => version.id),
  );
  if (removed.size === 0) return { record, removed: [] };
  return {
    record: { ...record, versions: record.versions.filter((version) => !removed.has(version.id)) },
    removed: [...removed],
  };
}
