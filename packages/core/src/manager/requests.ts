import type { Clock } from '../foundation/clock.js';
import {
  InvalidSecretValueError,
  RotationPolicyError,
  SecretDeletedError,
  SecretsError,
  VersionNotFoundError,
} from '../foundation/errors.js';
import type { RotationRequest } from '../rotation/rotation-request.js';
import type { SecretDescription } from './descriptions.js';
import { checkRotationPolicy, parseDuration, type Duration, type RotationPolicy } from '../versions/rotation-policy.js';
import {
  requireVersion,
  stagesOf,
  versionAt,
  type SecretRecord,
  type VersionRecord,
} from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';

export interface CreateSecretOptions {
  readonly description?: string;
  /** A word for what it is; `generic` by default. */
  readonly type?: string;
  readonly tags?: Readonly<Record<string, string>>;
  /** Each version expires this long after it was made. */
  readonly ttl?: Duration;
  readonly rotation?: RotationPolicy;
  /** The master key that seals its values, by id or alias; the default key unless stated. */
  readonly key?: string;
  /** A version that has lost its last stage is destroyed this much later; by default only when there are more than 10 of those. */
  readonly destroyOldAfter?: Duration;
  /** The id of the first version; `v1` by default. */
  readonly versionId?: string;
}

/** What of a secret can be changed later. */
export type SecretUpdate = Pick<
  CreateSecretOptions,
  'description' | 'type' | 'tags' | 'ttl' | 'key' | 'destroyOldAfter'
>;

/** A secret that an application cannot start without. */
export interface WantedSecret extends CreateSecretOptions {
  readonly name: string;
  /** Makes the first value, or has the rotator make it; undefined when the secret must be there. */
  readonly initial: (() => Promise<unknown>) | 'rotator' | undefined;
}

export interface PutSecretValueOptions {
  /** 1–64 of `A-Z a-z 0-9 _ -`; the next of `v1`, `v2`… by default. */
  readonly versionId?: string;
  /** Stages of your own to put on it, instead of making it current. */
  readonly stages?: readonly string[];
  /** Overrides the secret's TTL for this version. */
  readonly ttl?: Duration;
}

export interface RotateSecretOptions {
  /** What to wait for: `promoted` by default, `retired` for an emergency. */
  readonly until?: 'promoted' | 'retired';
  /**
   * The credential has leaked: window, jitter and probation count for nothing, and at the `deadline` every older version is retired whoever still uses
   * it. The result says who was cut off.
   */
  readonly emergency?: boolean;
  /** How long after now an emergency takes at most; 30 s by default. */
  readonly deadline?: Duration;
  /** Rehearses instead: goes through create, apply and verify with a throw-away credential, and cleans up. Would tonight's rotation work? */
  readonly dryRun?: boolean;
}

/** Which version: by id, by stage, or the current one. */
export interface VersionSelector {
  readonly versionId?: string;
  readonly stage?: string;
}

export interface SecretPage {
  readonly items: readonly SecretDescription[];
  /** The names of secrets on this page whose record cannot be read. */
  readonly corrupt: readonly string[];
  /** Give it as `after` to get the next page; undefined on the last one. */
  readonly next: string | undefined;
}

const VERSION_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** @throws SecretDeletedError */
export function requireUndeleted(record: SecretRecord): SecretRecord {
  if (record.deletion === undefined) return record;
  throw new SecretDeletedError(record.name, record.deletion.purgeAt);
}

export function select(record: SecretRecord, { versionId, stage }: VersionSelector): VersionRecord {
  if (versionId !== undefined) {
    const version = requireVersion(record, versionId);
    if (stage === undefined || stagesOf(record, versionId).includes(stage)) return version;
    throw new VersionNotFoundError(record.name, `version ${versionId} with the stage ${stage}`);
  }
  const version = versionAt(record, stage ?? 'current');
  if (version === undefined)
    throw new VersionNotFoundError(record.name, `version with the stage ${stage ?? 'current'}`);
  return version;
}

export function checkVersionId(name: string, versionId: string): string {
  if (VERSION_ID.test(versionId)) return versionId;
  throw new SecretsError('VERSION_ID_INVALID', 'A version id is 1 to 64 characters of A-Z a-z 0-9 _ -', {
    secretName: name,
  });
}

export function checkTtl(name: string, ttl: Duration | undefined, what = 'TTL'): number | undefined {
  if (ttl === undefined) return undefined;
  const ttlMs = parseDuration(ttl);
  if (ttlMs !== undefined && ttlMs > 0) return ttlMs;
  throw new InvalidSecretValueError(name, `The ${what} of ${name} must be above 0: milliseconds, or like '12h'.`);
}

/** What of a new secret the store knows. */
export interface NewSecret {
  readonly now: number;
  /** The id of its master key, where it names one. */
  readonly key: string | undefined;
  /** From where it counts on, when there was one of its name before. */
  readonly counted: number;
}

/** Looks up what a new secret needs to know. @throws KeyNotFoundError */
export async function newSecret(
  versions: VersionStore,
  clock: Clock,
  { key }: CreateSecretOptions,
  name: string,
): Promise<NewSecret> {
  const id = key === undefined ? undefined : await versions.keys.records.resolve(key);
  return { now: clock.now(), key: id, counted: await versions.counted(name) };
}

/** The record of a secret that has no version yet. */
export function newSecretRecord(
  name: string,
  options: CreateSecretOptions,
  { now, key, counted }: NewSecret,
): SecretRecord {
  const ttlMs = checkTtl(name, options.ttl);
  const destroyOldAfterMs = checkTtl(name, options.destroyOldAfter, 'destroyOldAfter');
  return {
    format: 1,
    name,
    description: options.description ?? '',
    type: options.type ?? 'generic',
    tags: options.tags ?? {},
    createdAt: now,
    updatedAt: now,
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(options.rotation === undefined ? {} : { rotation: checkRotationPolicy(name, options.rotation) }),
    ...(key === undefined ? {} : { key }),
    ...(destroyOldAfterMs === undefined ? {} : { destroyOldAfterMs }),
    nextSequence: counted + 1,
    promotion: counted,
    rolledBack: false,
    versions: [],
    stages: [],
  };
}

const DEFAULT_DEADLINE_MS = 30_000;

/** @throws RotationPolicyError */
export function rotationRequest(
  name: string,
  { emergency = false, deadline, dryRun = false }: RotateSecretOptions,
  now: number,
): RotationRequest {
  const fail = (message: string): never => {
    throw new RotationPolicyError(name, `The rotation of ${name} cannot begin: ${message}`);
  };
  if (emergency && dryRun) return fail('an emergency is no rehearsal; ask for one of the two.');
  if (deadline !== undefined && !emergency) return fail('only an emergency has a deadline.');
  if (dryRun) return { reason: 'rehearsal' };
  if (!emergency) return { reason: 'requested' };
  const deadlineMs = parseDuration(deadline ?? DEFAULT_DEADLINE_MS);
  if (deadlineMs === undefined) return fail("give the deadline in milliseconds, or like '30s'.");
  return { reason: 'emergency', deadline: now + deadlineMs };
}

/** Tags as events have them: texts, since a tag may be called anything. */
export function tagTexts(tags: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(tags).map(([key, value]) => `${key}=${value}`);
}
