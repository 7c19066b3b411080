import { KeyRequestError } from '../encryption/keys/key-errors.js';
import { type Duration, parseDuration } from '../versions/rotation-policy.js';

export interface CreateKeyOptions {
  /** What secrets may call it by; 1–128 of `A-Z a-z 0-9 / _ -`. */
  readonly alias?: string;
  readonly description?: string;
  /** Takes up a key that the provider has already, as with a KMS whose keys are made there, instead of making one. */
  readonly id?: string;
  /** How long to wait for every instance; 60 s by default. */
  readonly deadline?: Duration;
}

export interface RotateKeyOptions {
  /** Seal everything under the key anew afterwards, in the background; true by default. */
  readonly rewrap?: boolean;
  /** How long to wait for every instance; 60 s by default. The new version is used as soon as the last one has it, also after that. */
  readonly deadline?: Duration;
}

export interface ScheduleDestructionOptions {
  /** Only this version; all of the key by default. */
  readonly version?: number;
  /** How long it can be called off, from 7 to 30 days; 30 days by default. */
  readonly recoveryWindow?: Duration;
  /** Destroy what is sealed under it along with it: it can never be opened again, by anyone, in any backup either. False by default. */
  readonly shred?: boolean;
}

export interface MoveKeysOptions {
  /**
   * Which key of the new provider takes the place of which of the old one, by the id or an alias of the old. By default the new provider's own default key takes
   * the place of the default key, and for each other a new key is made, where the provider can.
   */
  readonly into?: Readonly<Record<string, string>>;
  /** How long to wait until every instance has the new keys; 60 s by default. */
  readonly deadline?: Duration;
}

/** What to seal anew: the versions of one secret, everything under one key (by id or alias), or everything. */
export type RewrapScope = { readonly secret: string } | { readonly key: string } | 'all';

/** Milliseconds. @throws KeyRequestError */
export function durationOf(name: string, duration: Duration): number {
  const ms = parseDuration(duration);
  if (ms === undefined)
    throw new KeyRequestError(`The ${name} is no length of time: give milliseconds, or like '30s' or '7d'.`);
  return ms;
}
