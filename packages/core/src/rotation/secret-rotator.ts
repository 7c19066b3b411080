import type { Clock } from '../foundation/clock.js';
import type { SecretVersion } from '../versions/secret-version.js';
import type { PasswordOptions } from '../foundation/random-password.js';

/** Facts a rotator wants to find again after a crash: JSON, small, never a secret. */
export type RotationNotes = Readonly<Record<string, string | number | boolean | null>>;

/** What every step of a rotation is told. */
export interface RotationContext<T = unknown> {
  readonly secretName: string;
  readonly rotationId: string;
  /** The version in use; undefined when this rotation makes the very first one. */
  readonly current: SecretVersion<T> | undefined;
  /** Aborted when the application shuts down; a step may then throw, and is done again after the next start. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** What `record` stored earlier in this rotation, also before a crash. */
  readonly notes: RotationNotes;
  /**
   * To be called right before each statement that changes the target, with no `await` in between: throws `RotationInterruptedError` when
   * this process can no longer be sure that it is the one that rotates this secret, as after it was paused for longer than its lease.
   */
  assertHolder(): void;
  /** For the strategy `lease`: whose credential it is, and how long it is good for. */
  readonly lease?: LeaseTerms;
}

/** The terms of a credential that belongs to one instance and ends by itself. */
export interface LeaseTerms {
  /** The instance it is for: 1–64 of `A-Z a-z 0-9 -`, never given out twice. */
  readonly instanceId: string;
  /** The target must refuse new log-ins with it from this time on, in milliseconds since the epoch, unless it is renewed. */
  readonly validUntil: number;
}

export interface CreateContext<T = unknown> extends RotationContext<T> {
  /** Identities (see `SecretRotator.identityOf`) that still belong to a version which is not retired, the current one included. */
  readonly busyIdentities: ReadonlySet<string>;
  randomPassword(options?: PasswordOptions): string;
}

export interface PendingContext<T = unknown> extends RotationContext<T> {
  /** The new version: stored and sealed before `apply` is called for the first time, and the same after a crash. */
  readonly pending: SecretVersion<T>;
  /** Stores facts durably before an effect, so that a later call of any step of this rotation finds them in `notes`. */
  record(notes: RotationNotes): Promise<void>;
}

export interface RetireContext<T = unknown> extends RotationContext<T> {
  readonly current: SecretVersion<T>;
  /** The version to be made invalid; no consumer holds it any more. */
  readonly retiring: SecretVersion<T>;
}

/** What `retire` proved. */
export interface RetireReport {
  /** True when a real log-in attempt with the old value was refused by the target. */
  readonly refused: boolean;
  /** Sessions of the old credential that had to be ended. */
  readonly sessionsEnded: number;
  /** Sessions of the old credential seen at the end: 0, or the step should have thrown. */
  readonly sessionsLeft: number;
}

export interface RenewContext<T = unknown> extends RotationContext<T> {
  /** The credential in use, which stays the same. */
  readonly current: SecretVersion<T>;
  /** The new end of its time. */
  readonly lease: LeaseTerms;
}

/**
 * How a strategy has overlap: old and new valid at once under two identities, one password that changes, two passwords of one identity, or
 * a credential for each instance that ends by itself.
 */
export type RotationStrategy = 'alternating-users' | 'single-user' | 'dual-password' | 'lease';

/**
 * The code that knows one kind of target and carries out the steps of a rotation there. Every step may be called again after a crash or a
 * failure, with the same versions, and must then come to the same end.
 *
 * What a step throws is recorded and logged with every value of the secret blotted out.
 */
export interface SecretRotator<T = unknown> {
  readonly strategy?: RotationStrategy;
  /** A new value. Nothing may change in the target yet: the value is not stored before this returns. */
  create(context: CreateContext<T>): T | Promise<T>;
  /** Teaches the target the pending value. */
  apply(context: PendingContext<T>): void | Promise<void>;
  /** Proves that the pending value works, and as well as the current one. Throws when it does not: the rotation is then undone. */
  verify(context: PendingContext<T>): void | Promise<void>;
  /** Makes the old value invalid, ends its sessions and proves that it is refused. */
  retire(context: RetireContext<T>): RetireReport | void | Promise<RetireReport | void>;
  /**
   * Takes `apply` back, whether or not it happened: the pending value becomes invalid and the current one works. Called when `apply` or
   * `verify` failed. Without it, `retire` is called with the pending value as the one to retire (or nothing, when there is no current one).
   */
  undo?(context: PendingContext<T>): void | Promise<void>;
  /**
   * The identity (user name, key id…) a value belongs to. Versions of one identity are retired in the order they were replaced. Without it
   * every value is an identity of its own.
   */
  identityOf?(value: T): string;
  /** Of the strategy `lease`, which needs it: the credential in use is good until `lease.validUntil` from now on. */
  renew?(context: RenewContext<T>): void | Promise<void>;
  /**
   * The rotator of a rehearsal (`rotateSecret(name, { dryRun: true })`): its `create`, `apply`, `verify` and `undo` do the same work as this
   * one's on a throw-away identity that no version of the secret has, and leave nothing behind. Without it a rehearsal is refused.
   */
  rehearsal?(): SecretRotator<T>;
  /** All identities there are, of a rotator whose identities take turns: a rotation then waits until one of them is free. */
  identities?(): readonly string[];
}
