import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import type { StoreIntegrity } from '../integrity/store-integrity.js';
import type { StoreCondition, StoreDriver, StoreWrite } from '../store/store-driver.js';
import type { GuardedWrite, SealedEntry } from './sealed-values.js';
import type { SecretRecord } from './secret-record.js';

/** What an edit wants committed: the new record, and whatever must happen in the same commit. */
export interface RecordEdit {
  readonly record: SecretRecord;
  readonly conditions?: readonly StoreCondition[];
  readonly writes?: readonly GuardedWrite[];
}

/** What must hold, and what else goes, when a secret is removed. */
export interface RecordRemoval {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
}

export interface VersionStoreOptions {
  readonly store: StoreDriver;
  /** What `store` is sealed by; without it, what stands in the store is believed. */
  readonly integrity?: StoreIntegrity;
  readonly keys: KeyProvider;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  /** How many data keys a version of a master key may wrap before the next one takes over; 0.9 · 2^32 by default. */
  readonly wrapLimit?: number;
  /** The most versions a secret may have, 100 by default, and the most bytes a value may have once encoded, 65,536 by default. */
  readonly limits?: { readonly versionsPerSecret?: number; readonly valueBytes?: number };
  /** How long before a version expires that is told, in milliseconds; 7 days, 1 day and 1 hour by default. */
  readonly expiryWarnings?: readonly number[];
  /** Entries of the store beside the values that are envelopes too, so that they are sealed anew when a master key rotates. */
  readonly sealedEntries?: readonly SealedEntry[];
}
