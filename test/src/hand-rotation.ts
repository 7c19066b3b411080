import {
  cryptoRandomness,
  randomPassword,
  systemClock,
  type Clock,
  type CreateContext,
  type DatabaseCredentials,
  type LeaseTerms,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  type RotationNotes,
  type SecretRotator,
  type SecretVersion,
} from '@nestjs-secrets/core';

export type Version = SecretVersion<DatabaseCredentials>;

/** A rotation as the engine would make it, one step at a time, each repeatable. */
export class HandRotation {
  notes: RotationNotes = {};
  readonly signal = new AbortController();
  pending: Version | undefined;
  /** Replaces `assertHolder`, to lose the rotation between two statements. */
  onAssert: () => void = () => undefined;
  /** The terms under which a rotator of leases is asked. */
  lease: LeaseTerms | undefined;
  clock: Clock = systemClock;

  constructor(
    private readonly rotator: SecretRotator<DatabaseCredentials>,
    readonly current: Version | undefined,
    private readonly busy: readonly string[] = [],
    /** Comes before each `record`, to crash between an effect and its note. */
    private readonly onRecord: (notes: RotationNotes) => unknown = () => undefined,
  ) {}

  async create(): Promise<Version> {
    const context: CreateContext<DatabaseCredentials> = {
      ...this.base(),
      busyIdentities: new Set([...this.busy, ...(this.current === undefined ? [] : [this.current.value.username])]),
      randomPassword: (options) => randomPassword(options ?? {}, cryptoRandomness),
    };
    const value = await this.rotator.create(context);
    this.pending = { name: 'MyDbCreds', versionId: `v${Math.random()}`, value };
    return this.pending;
  }

  async apply(): Promise<void> {
    await this.rotator.apply(this.pendingContext());
  }

  async verify(): Promise<void> {
    await this.rotator.verify(this.pendingContext());
  }

  async undo(): Promise<void> {
    await this.rotator.undo?.(this.pendingContext());
  }

  /** Retires what this rotation replaced. */
  async retire(retiring: Version | undefined = this.current): Promise<RetireReport> {
    if (retiring === undefined || this.pending === undefined) throw new Error('nothing to retire');
    const context: RetireContext<DatabaseCredentials> = { ...this.base(), current: this.pending, retiring };
    const report = await this.rotator.retire(context);
    if (report === undefined) throw new Error('no report');
    return report;
  }

  /** Moves the end of what this rotation made. */
  async renew(validUntil: number): Promise<void> {
    if (this.pending === undefined || this.lease === undefined) throw new Error('nothing to renew');
    const lease = { ...this.lease, validUntil };
    await this.rotator.renew?.({ ...this.base(), current: this.pending, lease });
  }

  /** create, apply and verify: up to the promotion. */
  async upToPromotion(): Promise<Version> {
    const pending = await this.create();
    await this.apply();
    await this.verify();
    return pending;
  }

  private base() {
    return {
      secretName: 'MyDbCreds',
      rotationId: 'r1',
      current: this.current,
      signal: this.signal.signal,
      clock: this.clock,
      notes: this.notes,
      assertHolder: () => this.onAssert(),
      ...(this.lease === undefined ? {} : { lease: this.lease }),
    };
  }

  private pendingContext(): PendingContext<DatabaseCredentials> {
    if (this.pending === undefined) throw new Error('nothing pending');
    return {
      ...this.base(),
      pending: this.pending,
      record: async (notes) => {
        await this.onRecord(notes);
        this.notes = { ...this.notes, ...notes };
      },
    };
  }
}
