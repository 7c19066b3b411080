import type { ValidDocument } from '../access/policy-document.js';
import { checkIdentityPolicy, checkSecretPolicy } from '../access/policy-validator.js';
import type { RotationState } from '../rotation/rotation-state.js';
import { checkRotationPolicy } from '../versions/rotation-policy.js';
import { checkSecretName } from '../versions/secret-name.js';
import type { SecretRecord, VersionRecord } from '../versions/secret-record.js';
import { BackupError, invalidBackup } from './backup-errors.js';

/** The version of the format that is written, and the latest that can be read. docs/backup.md describes it. */
export const BACKUP_FORMAT = 'nestjs-secrets-backup';
export const BACKUP_VERSION = 1;

type Head = Readonly<Record<string, unknown>>;

export interface BackupHeader {
  readonly kind: 'header';
  readonly format: typeof BACKUP_FORMAT;
  readonly version: typeof BACKUP_VERSION;
  readonly storeId: string;
  /** When the export began, in milliseconds since the epoch. */
  readonly createdAt: number;
  /** The public key of the store that was exported. */
  readonly signedBy: string;
}

/** A policy with its history. */
export interface BackupPolicy {
  readonly document: ValidDocument;
  readonly updatedAt: number;
  readonly updatedBy: string;
}

/** Everything about one secret but its values, which follow it, one frame each, in the order of its versions. */
export interface BackupSecret {
  readonly kind: 'secret';
  /** As in the store, but for `key`: that is an alias of the master key where it has one. */
  readonly record: SecretRecord;
  /** Its journal, without a lease; missing when it never rotated. */
  readonly rotation?: RotationState;
  readonly policy?: BackupPolicy;
}

export interface BackupIdentityPolicy extends BackupPolicy {
  readonly kind: 'policy';
  readonly name: string;
  readonly principals: readonly string[];
}

/** A secret, a version of it or its rotation journal that could not be read, and why, as the code of an error. */
export interface LeftOut {
  readonly secretName: string;
  readonly versionId?: string;
  readonly part?: 'rotation';
  readonly code: string;
}

export interface BackupEnd {
  readonly kind: 'end';
  readonly secrets: number;
  readonly versions: number;
  readonly policies: number;
  /** Whether the store had policies, perhaps only once: then they govern where this is imported. */
  readonly enforced: boolean;
  readonly leftOut: readonly LeftOut[];
}

const VERSION_ID = /^[A-Za-z0-9_-]{1,64}$/;
const STATES: readonly unknown[] = ['live', 'draining', 'retiring', 'retired'];

/** @throws BackupError */
export function parseHeader(head: Head | undefined): BackupHeader {
  const { kind, format, version, storeId, createdAt, signedBy } = head ?? {};
  if (kind !== 'header' || format !== BACKUP_FORMAT || typeof version !== 'number')
    throw invalidBackup('it does not begin as one');
  if (version > BACKUP_VERSION) {
    throw new BackupError(
      'BACKUP_NEWER',
      `This backup is of format ${version}, and this version of the library reads up to ${BACKUP_VERSION}. Update it, and import again. Nothing was imported.`,
    );
  }
  if (version !== BACKUP_VERSION || typeof storeId !== 'string' || !isTime(createdAt) || typeof signedBy !== 'string')
    throw invalidBackup('its header is not of its format');
  return { kind, format, version, storeId, createdAt, signedBy };
}

/** @throws BackupError */
export function parseSecret({ record, rotation, policy }: Head): BackupSecret {
  const name = nameIn(record);
  return sound(`what it says of ${name}`, () => {
    demand(isRecord(record));
    if (record.rotation !== undefined) checkRotationPolicy(name, record.rotation);
    demand(rotation === undefined || isJournal(rotation));
    const sealed = policy === undefined ? undefined : policyOf(policy, (document) => checkSecretPolicy(name, document));
    return {
      kind: 'secret',
      record,
      ...(rotation === undefined ? {} : { rotation }),
      ...(sealed === undefined ? {} : { policy: sealed }),
    };
  });
}

/** @throws BackupError */
export function parseIdentityPolicy(head: Head): BackupIdentityPolicy {
  return sound('a policy in it', () => {
    const { name, principals } = head;
    demand(typeof name === 'string' && Array.isArray(principals));
    const checked = checkIdentityPolicy({ name, principals, document: head['document'] });
    return { kind: 'policy', name, principals: checked.principals, ...policyOf(head, () => checked.document) };
  });
}

/** @throws BackupError */
export function parseEnd(head: Head): BackupEnd {
  const { secrets, versions, policies, enforced, leftOut } = head;
  if (![secrets, versions, policies].every(isCount) || typeof enforced !== 'boolean' || !Array.isArray(leftOut))
    throw invalidBackup('its end is not of its format');
  return {
    kind: 'end',
    secrets: Number(secrets),
    versions: Number(versions),
    policies: Number(policies),
    enforced,
    leftOut: leftOut.map((one: unknown) => {
      const { secretName, versionId, part, code } = isObject(one) ? one : {};
      if (typeof secretName !== 'string' || typeof code !== 'string')
        throw invalidBackup('its end is not of its format');
      return {
        secretName,
        ...(typeof versionId === 'string' ? { versionId } : {}),
        ...(part === 'rotation' ? { part } : {}),
        code,
      };
    }),
  };
}

function nameIn(record: unknown): string {
  return sound('the name of a secret in it', () => checkSecretName(isObject(record) ? record['name'] : undefined));
}

function isRecord(record: unknown): record is SecretRecord {
  if (!isObject(record) || record['format'] !== 1) return false;
  const { description, type, tags, createdAt, updatedAt, nextSequence, promotion, rolledBack } = record;
  const { versions, stages, ttlMs, key, destroyOldAfterMs, deletion, lease } = record;
  if (typeof description !== 'string' || typeof type !== 'string' || typeof rolledBack !== 'boolean') return false;
  if (!isObject(tags) || !Object.values(tags).every((tag) => typeof tag === 'string')) return false;
  if (![createdAt, updatedAt].every(isTime) || ![nextSequence, promotion].every(isCount)) return false;
  if (![ttlMs, destroyOldAfterMs].every((time) => time === undefined || isTime(time))) return false;
  if (key !== undefined && typeof key !== 'string') return false;
  if (deletion !== undefined && !(isObject(deletion) && [deletion['requestedAt'], deletion['purgeAt']].every(isTime)))
    return false;
  if (lease !== undefined && !(isObject(lease) && [lease['of'], lease['instanceId']].every(isText))) return false;
  if (!Array.isArray(versions) || !versions.every(isVersion)) return false;
  const ids = new Set(versions.map(({ id }) => id));
  return ids.size === versions.length && Array.isArray(stages) && stages.every((stage) => isStage(stage, ids));
}

function isVersion(version: unknown): version is VersionRecord {
  if (!isObject(version)) return false;
  const { id, sequence, createdAt, expiresAt, state, destroyAt, warned } = version;
  if (!isText(id) || !VERSION_ID.test(id) || !isCount(sequence) || !isTime(createdAt)) return false;
  return STATES.includes(state) && [expiresAt, destroyAt, warned].every((time) => time === undefined || isTime(time));
}

function isStage(stage: unknown, ids: ReadonlySet<string>): boolean {
  if (!Array.isArray(stage) || stage.length !== 2) return false;
  const [label, id]: unknown[] = stage;
  return isText(label) && VERSION_ID.test(label) && isText(id) && ids.has(id);
}

function isJournal(state: unknown): state is RotationState {
  if (!isObject(state) || state['format'] !== 1 || state['lease'] !== undefined || !isCount(state['failures']))
    return false;
  const { obligations, active } = state;
  if (!Array.isArray(obligations) || !obligations.every(isRotation)) return false;
  return active === undefined || isRotation(active);
}

function isRotation(one: unknown): boolean {
  if (!isObject(one)) return false;
  return [one['rotationId'], one['rotator'], one['step']].every(isText) && isObject(one['notes']);
}

function policyOf(policy: unknown, check: (document: unknown) => ValidDocument): BackupPolicy {
  const { document, updatedAt, updatedBy } = isObject(policy) ? policy : {};
  demand(isTime(updatedAt) && typeof updatedBy === 'string');
  return { document: check(document), updatedAt, updatedBy };
}

/** What a check throws may quote what it saw, and says of a caller's mistake what here is the fault of the file. */
function sound<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw invalidBackup(`${what} is not of its format`);
  }
}

function demand(condition: boolean): asserts condition {
  if (!condition) throw new TypeError('not of its format');
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const isTime = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0;
