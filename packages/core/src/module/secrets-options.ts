import type { Clock } from '../foundation/clock.js';
import type { LogCensor } from '../foundation/log-censor.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { ProcessTable } from '../fleet/process-identity.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import type { IntegrityOptions } from '../integrity/store-integrity.js';
import type { StoreDriver } from '../store/store-driver.js';
import type { SecretSource } from '../client/secret-source.js';
import type { AuditOptions, PoliciesOptions, PrincipalOptions } from './access-options.js';
import type { SharedAuditLog } from './shared-audit-log.js';
import type { Duration } from '../versions/rotation-policy.js';
import type { SecretRotator } from '../rotation/secret-rotator.js';

/** A rotator with the name that policies call it by. */
export type NamedRotator = SecretRotator & { readonly name: string };

export interface InstanceOptions {
  /**
   * How long a heartbeat counts, in milliseconds; 10,000 by default, at least 300. Others take this process for dead once it was silent for twice as long;
   * after having been paused for longer than this it reads everything anew before it goes on. All instances of a store should have the same.
   */
  readonly leaseMs?: number;
  /** For tests: what is known of other processes. */
  readonly processes?: ProcessTable;
}

/** What `SecretsModule.forRoot` takes: `store` and `keys`, or a `source` in place of both. */
export interface SecretsModuleOptions {
  /** Where secrets are kept. */
  readonly store?: StoreDriver;
  /** Where the customer master keys are that seal them. */
  readonly keys?: KeyProvider;
  /**
   * How the store is kept from those who can write to its database and do not hold the keys. On by default; false switches it off, for a store that nobody else can reach
   * and that was never sealed.
   */
  readonly integrity?: IntegrityOptions | false;
  /** Reads secrets from elsewhere instead of from a store of our own; there is no manager and no rotation then. */
  readonly source?: SecretSource;
  /** Who this application is to policies and in the audit log: `application/<name>`; the name `app` by default. */
  readonly principal?: string | PrincipalOptions;
  /** How policies are enforced, and those that come from code. Without any, this application may do everything and nobody else anything. */
  readonly policies?: PoliciesOptions;
  /** The audit log of this instance, or one that it shares with others in its process. Nothing is audited without it. */
  readonly audit?: AuditOptions | SharedAuditLog;
  /** Rotators that come as objects. Classes with `@Rotator()` are found by themselves, but cannot make a secret's first value. */
  readonly rotators?: readonly NamedRotator[];
  /** How long the first value of a secret may take at start, in milliseconds; 10,000 by default. */
  readonly bootTimeoutMs?: number;
  /** Handles look at their source this often even without a hint, in milliseconds; 60,000 by default, 0 for never. */
  readonly refreshIntervalMs?: number;
  /** False keeps this process from rotating: no schedule, and nothing unfinished is gone on with. True by default. */
  readonly rotate?: boolean;
  /** How this process stands among those that share its store. */
  readonly instance?: InstanceOptions;
  /** A censor that a logger has which was made before the application; by default there is one of its own, which can be injected as `LogCensor`. */
  readonly censor?: LogCensor;
  /** How long before a version expires that is told, longest first; 7 days, 1 day and 1 hour by default. All instances of a store should have the same. */
  readonly expiryWarnings?: readonly Duration[];
  /** The most versions a secret may have, 100 by default, and the most bytes a value may have, 65,536 by default and at most 1,000,000. */
  readonly limits?: { readonly versionsPerSecret?: number; readonly valueBytes?: number };
  /** For tests: how many data keys a version of a master key wraps before the next one takes over; 0.9 · 2^32 by default. */
  readonly wrapLimit?: number;
  /** For tests: where time, randomness and ids come from. */
  readonly clock?: Clock;
  readonly randomness?: Randomness;
  readonly ids?: Ids;
}
