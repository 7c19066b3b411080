import { CorruptRecordError } from '../../foundation/errors.js';
import { type CmkRef, isCmkRef } from '../key-provider.js';
import { KeyNotFoundError, KeyRequestError } from './key-errors.js';

/**
 * What a version of a master key may do. `created`: made, and not used before every instance can open what it wraps. `active`: wraps and unwraps; at
 * most one version of a key is. `decrypt-only`: unwraps. `disabled`: neither, until it is enabled again. `destroyed`: gone for good.
 */
export type CmkState = 'created' | 'active' | 'decrypt-only' | 'disabled' | 'destroyed';

export interface CmkVersionRecord {
  readonly version: number;
  readonly state: CmkState;
  readonly createdAt: number;
  /** When it was first used. */
  readonly activatedAt?: number;
  /** What it was before it was disabled. */
  readonly before?: 'active' | 'decrypt-only';
  /** When it is destroyed, unless that is called off. */
  readonly destroyAt?: number;
  /** Destroy it although something is sealed under it. */
  readonly shred?: boolean;
  /** An envelope in base64 that whoever has this key version can open. */
  readonly proof?: string;
}

/** Everything the store knows of a master key. The key itself is with the key provider. */
export interface CmkRecord {
  readonly format: 1;
  readonly id: string;
  readonly description: string;
  readonly createdAt: number;
  readonly aliases: readonly string[];
  /** The key of another provider that has taken its place, or is about to. */
  readonly movedTo?: string;
  /** In the order they were made. */
  readonly versions: readonly CmkVersionRecord[];
}

export const KEY_RECORD_PREFIX = 'cmk/key/';
export const KEY_ALIAS_PREFIX = 'cmk/alias/';
/** The alias of the key that secrets are sealed under when they name none. */
export const DEFAULT_ALIAS = 'default';

const ALIAS = /^[A-Za-z0-9/_-]{1,128}$/;

export function parseKeyRecord(id: string, bytes: Uint8Array): CmkRecord {
  let record: CmkRecord | undefined;
  try {
    record = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    record = undefined;
  }
  if (record?.format === 1 && record.id === id && Array.isArray(record.versions) && Array.isArray(record.aliases))
    return record;
  throw new CorruptRecordError(`The record of master key ${id}`, 'it does not parse, or is of another key');
}

/** @throws KeyRequestError */
export function checkAlias(alias: unknown): string {
  if (typeof alias === 'string' && ALIAS.test(alias)) return alias;
  throw new KeyRequestError('An alias is 1 to 128 characters of A-Z a-z 0-9 / _ -');
}

/** Passes a well-formed id of a key through. @throws KeyNotFoundError for what can be none */
export function checkKeyId(id: string): string {
  if (isCmkRef({ id, version: 1 })) return id;
  throw new KeyNotFoundError(typeof id === 'string' ? JSON.stringify(id.slice(0, 64)) : 'without a text for an id');
}

export function activeVersion(record: CmkRecord): CmkRef | undefined {
  const active = record.versions.find(({ state }) => state === 'active');
  return active && { id: record.id, version: active.version };
}

/** The version that is made and waits for every instance. */
export function createdVersion(record: CmkRecord): CmkVersionRecord | undefined {
  return record.versions.find(({ state }) => state === 'created');
}

/** @throws KeyNotFoundError */
export function requireKeyVersion(record: CmkRecord, version: number): CmkVersionRecord {
  const found = record.versions.find((one) => one.version === version);
  if (found === undefined) throw new KeyNotFoundError(`${record.id} version ${version}`);
  return found;
}

export function addKeyVersion(record: CmkRecord, version: CmkVersionRecord): CmkRecord {
  return { ...record, versions: [...record.versions, version] };
}

/** Makes a created version the one that wraps, and leaves the one before it to unwrap. */
export function activate(record: CmkRecord, version: number, now: number): CmkRecord {
  return mapVersions(record, (one) => {
    if (one.version === version) return { ...one, state: 'active', activatedAt: now };
    return one.state === 'active' ? { ...one, state: 'decrypt-only' } : one;
  });
}

/** Leaves a key to unwrap, and wraps nothing under it any more. */
export function retire(record: CmkRecord): CmkRecord {
  return mapVersions(record, (one) => (one.state === 'active' ? { ...one, state: 'decrypt-only' } : one));
}

/** Disables one version, or all of them. */
export function disable(record: CmkRecord, version?: number): CmkRecord {
  return mapVersions(record, (one) => {
    if (version !== undefined && one.version !== version) return one;
    if (one.state === 'active' || one.state === 'decrypt-only') return { ...one, state: 'disabled', before: one.state };
    // Asked for by its number, silence would be taken for success.
    if (version !== undefined && one.state === 'created')
      throw new KeyRequestError(`Version ${version} of ${record.id} is not in use yet, so it cannot be disabled.`);
    return one;
  });
}

/** Takes `disable` back, and with it a destruction to come. What was active is again, unless another version is by now. */
export function enable(record: CmkRecord, version?: number): CmkRecord {
  let hasActive = activeVersion(record) !== undefined;
  const enabled = record.versions.toReversed().map((one) => {
    if (one.state !== 'disabled' || (version !== undefined && one.version !== version)) return one;
    const { before = 'decrypt-only', destroyAt: _called, shred: _off, ...rest } = one;
    const state = before === 'active' && !hasActive ? 'active' : 'decrypt-only';
    hasActive ||= state === 'active';
    return { ...rest, state } satisfies CmkVersionRecord;
  });
  return { ...record, versions: enabled.toReversed() };
}

/** Disables one version, or all, and has them destroyed later. */
export function planDestruction(
  record: CmkRecord,
  version: number | undefined,
  destroyAt: number,
  shred: boolean,
): CmkRecord {
  return mapVersions(disable(record, version), (one) =>
    one.state === 'disabled' && (version === undefined || one.version === version)
      ? { ...one, destroyAt, ...(shred ? { shred } : {}) }
      : one,
  );
}

/** Those whose destruction was asked for, and when the first is due. */
export function toDestroy(record: CmkRecord): readonly (CmkVersionRecord & { readonly destroyAt: number })[] {
  return record.versions.flatMap((one) =>
    one.state === 'disabled' && one.destroyAt !== undefined ? [{ ...one, destroyAt: one.destroyAt }] : [],
  );
}

export function keyDueAt(record: CmkRecord): number | undefined {
  const times = toDestroy(record).map(({ destroyAt }) => destroyAt);
  return times.length === 0 ? undefined : Math.min(...times);
}

export function markDestroyed(record: CmkRecord, version: number): CmkRecord {
  return mapVersions(record, (one) =>
    one.version === version
      ? { version, state: 'destroyed', createdAt: one.createdAt, ...(one.destroyAt && { destroyAt: one.destroyAt }) }
      : one,
  );
}

/** Puts a destruction off, as one that would take data with it. */
export function postpone(record: CmkRecord, version: number, destroyAt: number): CmkRecord {
  return mapVersions(record, (one) => (one.version === version ? { ...one, destroyAt } : one));
}

function mapVersions(record: CmkRecord, edit: (version: CmkVersionRecord) => CmkVersionRecord): CmkRecord {
  return { ...record, versions: record.versions.map(edit) };
}
