import type { CmkRecord, CmkState } from '../encryption/keys/key-record.js';
import type { RewrapReport } from './key-events.js';

/** A version of a master key. Times are milliseconds since the epoch. */
export interface KeyVersionDescription {
  readonly version: number;
  readonly state: CmkState;
  readonly createdAt: number;
  readonly activatedAt: number | undefined;
  /** When it is to be destroyed, or was. */
  readonly destroyAt: number | undefined;
  /** How many data keys it may have wrapped: blocks of the count that an instance took and did not use count as well. Only from `describeKey`. */
  readonly wraps: number | undefined;
  /** For one that is `created`: the instances that cannot open what it wraps yet. Only from `describeKey`. */
  readonly missing: readonly string[] | undefined;
}

/** How far sealing anew is, and in which instance it takes place; undefined while nobody has it. */
export interface RunningRewrap extends RewrapReport {
  readonly instanceId: string | undefined;
}

/** A master key: what the store knows of it. The key itself never leaves its provider. */
export interface KeyDescription {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly description: string;
  readonly createdAt: number;
  /** The key of another provider that has taken its place, or is to take it once every instance has it. */
  readonly movedTo?: string;
  readonly versions: readonly KeyVersionDescription[];
  /** Values being sealed anew, and the latest round that came to its end. Only from `describeKey`. */
  readonly rewrap: { readonly running: RunningRewrap | undefined; readonly last: RewrapReport | undefined } | undefined;
}

export interface KeyPage {
  readonly items: readonly KeyDescription[];
  /** Give it as `after` to get the next page; undefined on the last one. */
  readonly next: string | undefined;
}

export function describeKeyRecord(record: CmkRecord): KeyDescription {
  const { id, aliases, description, createdAt, movedTo } = record;
  return {
    id,
    aliases,
    description,
    createdAt,
    ...(movedTo === undefined ? {} : { movedTo }),
    versions: record.versions.map(({ version, state, createdAt: madeAt, activatedAt, destroyAt }) => ({
      version,
      state,
      createdAt: madeAt,
      activatedAt,
      destroyAt,
      wraps: undefined,
      missing: undefined,
    })),
    rewrap: undefined,
  };
}
