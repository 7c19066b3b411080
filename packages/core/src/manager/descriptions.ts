import { isSuspended, type RotationPolicy } from '../versions/rotation-policy.js';
import { stagesOf, type SecretRecord, type VersionRecord, type VersionState } from '../versions/secret-record.js';
import type { RetiredSummary, RotationState, RotationSummary } from '../rotation/rotation-state.js';

/** A version without its value. Times are milliseconds since the epoch. */
export interface VersionDescription {
  readonly versionId: string;
  readonly stages: readonly string[];
  readonly createdAt: number;
  readonly expiresAt: number | undefined;
  readonly state: VersionState;
  /** When its value is destroyed, unless it gets a stage before that. */
  readonly destroyAt: number | undefined;
}

/** What is under way and what was last, for a secret with a rotation policy. */
export interface RotationDescription {
  readonly policy: RotationPolicy;
  /** The step of a rotation that is not promoted yet. */
  readonly step: string | undefined;
  /** Versions that were replaced and are not retired yet. */
  readonly unretired: readonly string[];
  /** Rotations in a row that failed or were rolled back. */
  readonly failures: number;
  /** Whether the schedule stands still because there were too many; see `resumeRotation`. */
  readonly suspended: boolean;
  /** The instance that has the rotation, or what is left of it, under way. */
  readonly instanceId: string | undefined;
  readonly lastRotation: RotationSummary | undefined;
  readonly lastRehearsal: RotationSummary | undefined;
  readonly lastRetired: RetiredSummary | undefined;
  readonly nextRotationAt: number | undefined;
}

/** A secret without its values. */
export interface SecretDescription {
  readonly name: string;
  readonly description: string;
  readonly type: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly ttlMs: number | undefined;
  /** The id of the master key its values are sealed under; undefined for the default key. */
  readonly key: string | undefined;
  /** When it will be gone; undefined unless it is deleted. */
  readonly purgeAt: number | undefined;
  readonly versions: readonly VersionDescription[];
  /** Only from `describeSecret`, and only with a rotation policy. */
  readonly rotation: RotationDescription | undefined;
}

export function describeVersion(record: SecretRecord, version: VersionRecord): VersionDescription {
  const { id, createdAt, expiresAt, state, destroyAt } = version;
  return { versionId: id, stages: stagesOf(record, id), createdAt, expiresAt, state, destroyAt };
}

export function describeSecret(
  record: SecretRecord,
  state?: RotationState,
  nextRotationAt?: number,
): SecretDescription {
  const { name, description, type, tags, createdAt, updatedAt, ttlMs, rotation } = record;
  return {
    name,
    description,
    type,
    tags,
    createdAt,
    updatedAt,
    ttlMs,
    key: record.key,
    purgeAt: record.deletion?.purgeAt,
    versions: record.versions.map((version) => describeVersion(record, version)),
    rotation: rotation &&
      state && {
        policy: rotation,
        step: state.active?.step,
        unretired: state.obligations.map(({ versionId }) => versionId),
        failures: state.failures,
        suspended: isSuspended(rotation, state.failures),
        instanceId: state.lease?.holder,
        lastRehearsal: state.lastRehearsal,
        lastRotation: state.lastRotation,
        lastRetired: state.lastRetired,
        nextRotationAt,
      },
  };
}
