import { CorruptRecordError } from '../foundation/errors.js';
import { leaseTtlMs } from '../versions/rotation-policy.js';
import { versionAt } from '../versions/secret-record.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { ActiveRotation } from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import type { LeaseTerms, PendingContext, RotationContext, RotationNotes } from './secret-rotator.js';

/** The values that a step after `create` works with. */
export interface LoadedValues {
  readonly current: SecretVersion | undefined;
  readonly pending: SecretVersion;
}

/** What the steps of one rotation are told. Values are decrypted when the first step asks for them, once it was let in. */
export class StepValues {
  /** For the strategy `lease`: whose it is, and until when. */
  #terms: { readonly lease?: LeaseTerms } = {};
  #loaded: LoadedValues | undefined;

  constructor(
    private readonly context: EngineContext,
    private readonly tenure: Tenure,
    private readonly rotationId: string,
    private readonly record: (notes: RotationNotes) => Promise<void>,
  ) {}

  /** What was decrypted so far. */
  get loaded(): LoadedValues | undefined {
    return this.#loaded;
  }

  async of(active: ActiveRotation): Promise<LoadedValues> {
    this.#loaded ??= {
      current: await this.current(),
      pending: await loadVersion(this.context, this.tenure.secretName, this.versionIdOf(active)),
    };
    return this.#loaded;
  }

  async current(): Promise<SecretVersion | undefined> {
    const { secretName } = this.tenure;
    const record = await this.context.versions.get(secretName);
    if (record.lease !== undefined && record.rotation !== undefined) {
      const validUntil = this.context.clock.now() + leaseTtlMs(record.rotation);
      this.#terms = { lease: { instanceId: record.lease.instanceId, validUntil } };
    }
    const version = versionAt(record, 'current');
    return version && loadVersion(this.context, secretName, version.id);
  }

  versionIdOf({ versionId, step }: ActiveRotation): string {
    if (versionId !== undefined) return versionId;
    throw new CorruptRecordError(
      `The rotation journal of ${this.tenure.secretName}`,
      `it is at ${step} without a version`,
    );
  }

  stepContext(active: ActiveRotation, current: SecretVersion | undefined): RotationContext {
    return {
      secretName: this.tenure.secretName,
      rotationId: this.rotationId,
      current,
      signal: this.tenure.signal,
      clock: this.context.clock,
      notes: active.notes,
      assertHolder: () => this.tenure.assertHolder(),
      ...this.#terms,
    };
  }

  pendingContext(active: ActiveRotation, { current, pending }: LoadedValues): PendingContext {
    return { ...this.stepContext(active, current), pending, record: (notes) => this.record(notes) };
  }
}
