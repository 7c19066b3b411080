import { CorruptRecordError, RotationFailedError, RotationStoppedError } from '../foundation/errors.js';
import { randomPassword } from '../foundation/random-password.js';
import { redactError } from '../foundation/redaction.js';
import {
  addVersion,
  nextVersionId,
  promote,
  removeVersion,
  setStage,
  setVersionState,
  versionAt,
} from '../versions/secret-record.js';
import { leaseTtlMs, probationMs } from '../versions/rotation-policy.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { versionRemoval } from '../versions/version-store.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { RotationStep } from './rotation-events.js';
import type { RotationResult } from './rotation-result.js';
import type { ActiveRotation, RotationState, StepFailure } from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import type { LeaseTerms, PendingContext, RotationContext, SecretRotator } from './secret-rotator.js';

/** One rotation from wherever its journal stands to promotion, or to being undone. */
export class RotationRun {
  constructor(
    private readonly context: EngineContext,
    private readonly tenure: Tenure,
    private readonly secretName: string,
    private readonly rotator: SecretRotator,
    private readonly rotationId: string,
    private readonly busyIdentities: ReadonlySet<string>,
    /** Called when the journal has the end of this rotation, before anybody is told: who then asks for a rotation wants a new one. */
    private readonly onEnd: () => void,
  ) {}

  /** For the strategy `lease`: whose it is, and until when. */
  #terms: { readonly lease?: LeaseTerms } = {};

  async toPromotion(): Promise<{ result: RotationResult; state: RotationState }> {
    const current = await this.#current();
    const begun = await this.#active();
    const active = begun.step === 'create' ? await this.#create(begun, current) : begun;
    return this.context.turns.take(this.secretName, this.tenure.signal, () => this.#fromApply(active, current));
  }

  async #fromApply(
    created: ActiveRotation,
    current: SecretVersion | undefined,
  ): Promise<{ result: RotationResult; state: RotationState }> {
    let active = created;
    const pending = await this.#pending(active);
    if (active.step === 'apply') active = await this.#forward(active, current, pending, 'apply');
    if (active.step === 'verify') active = await this.#forward(active, current, pending, 'verify');
    if (active.step === 'undo') return this.#undo(active, current, pending);
    return this.#promote(pending.versionId);
  }

  async #create(active: ActiveRotation, current: SecretVersion | undefined): Promise<ActiveRotation> {
    const { definitions, randomness, versions, clock } = this.context;
    this.#announce('create', undefined);
    let value: unknown;
    try {
      value = await this.rotator.create({
        ...this.#stepContext(active, current),
        busyIdentities: this.busyIdentities,
        randomPassword: (options = {}) => randomPassword(options, randomness),
      });
      await definitions.check(this.secretName, value);
    } catch (error) {
      this.#throwWhenStopping();
      const cause = redactError(error, [current?.value, value]);
      await this.tenure.change((state) => this.#failed(state, { step: 'create', message: cause.message }));
      this.onEnd();
      throw this.#failure('create', cause, true);
    }
    // The pending version is durable before the target can learn of it: an ALTER that nobody remembers would lock everyone out.
    const { state } = await this.tenure.changeBoth(async (before, record) => {
      if (record === undefined || before.active?.rotationId !== this.rotationId) return undefined;
      const versionId = nextVersionId(record);
      const added = addVersion(record, versionId, clock.now());
      return {
        state: { ...before, active: { ...before.active, step: 'apply', versionId } },
        edit: {
          // What is only rehearsed must never be handed out.
          record: this.#isRehearsal(active)
            ? setVersionState(added, versionId, 'retiring')
            : setStage(added, 'pending', versionId),
          writes: [await versions.sealValue(this.secretName, versionId, value)],
        },
      };
    });
    return state.active ?? active;
  }

  /** Carries out `apply` or `verify` and journals what comes next: the following step, or `undo` when it threw. */
  async #forward(
    active: ActiveRotation,
    current: SecretVersion | undefined,
    pending: SecretVersion,
    step: 'apply' | 'verify',
  ): Promise<ActiveRotation> {
    this.#announce(step, pending.versionId);
    const afterVerify = this.#isRehearsal(active) ? { step: 'undo' as const } : undefined;
    let advanced: Partial<ActiveRotation> | undefined = step === 'apply' ? { step: 'verify' } : afterVerify;
    try {
      await this.rotator[step](this.#pendingContext(active, current, pending));
    } catch (error) {
      this.#throwWhenStopping();
      const { message } = redactError(error, [current?.value, pending.value]);
      advanced = { step: 'undo', failure: { step, message } };
    }
    return advanced === undefined ? this.#active() : this.#advance(advanced);
  }

  async #promote(versionId: string): Promise<{ result: RotationResult; state: RotationState }> {
    const { clock, events } = this.context;
    this.#announce('promote', versionId);
    let previousVersionId: string | undefined;
    const { state } = await this.tenure.changeBoth((before, record) => {
      const { active, ...rest } = before;
      if (record === undefined || active?.rotationId !== this.rotationId) return undefined;
      previousVersionId = versionAt(record, 'current')?.id;
      const now = clock.now();
      const { rotationId, rotator, startedAt, notes, reason, deadline } = active;
      const promoted = promote(record, versionId, now);
      const { promotion } = promoted;
      const lastRotation = {
        rotationId,
        reason,
        startedAt,
        endedAt: now,
        outcome: 'promoted' as const,
        versionId,
        ...(previousVersionId === undefined ? {} : { previousVersionId }),
      };
      if (previousVersionId === undefined)
        return { state: { ...rest, failures: 0, lastRotation }, edit: { record: promoted } };
      const obligation = {
        versionId: previousVersionId,
        replacedBy: versionId,
        promotion,
        rotationId,
        rotator,
        step: 'settle' as const,
        since: now,
        notes,
        ...(before.failures === 0 ? {} : { failuresBefore: before.failures }),
        ...(deadline === undefined ? { notBefore: now + probationMs(record.rotation, reason, now) } : { deadline }),
      };
      return {
        state: { ...rest, failures: 0, lastRotation, obligations: [...rest.obligations, obligation] },
        edit: { record: setVersionState(promoted, previousVersionId, 'draining') },
      };
    });
    const { secretName, rotationId } = this;
    this.onEnd();
    events.next({ type: 'promoted', secretName, rotationId, at: clock.now(), versionId, previousVersionId });
    return { state, result: { secretName, rotationId, versionId, previousVersionId } };
  }

  /** Takes a rotation back: one that failed, which then ends by throwing why, or one that was but a rehearsal. */
  async #undo(
    active: ActiveRotation,
    current: SecretVersion | undefined,
    pending: SecretVersion,
  ): Promise<{ result: RotationResult; state: RotationState }> {
    const { clock, events } = this.context;
    const { secretName, rotationId } = this;
    const { failure } = active;
    this.#announce('undo', pending.versionId);
    try {
      const context = this.#pendingContext(active, current, pending);
      if (this.rotator.undo !== undefined) await this.rotator.undo(context);
      else if (current !== undefined) await this.rotator.retire({ ...context, current, retiring: pending });
    } catch (error) {
      this.#throwWhenStopping();
      const cause = redactError(error, [current?.value, pending.value]);
      const before = failure === undefined ? '' : `${failure.message}; `;
      const message = `${before}taking it back failed${failure === undefined ? '' : ' too'}, which is tried again: ${cause.message}`;
      throw this.#failure(failure?.step ?? 'undo', cause, false, message);
    }
    const { state } = await this.tenure.changeBoth((before, record) => {
      if (record === undefined || before.active?.rotationId !== rotationId) return undefined;
      const ended = failure === undefined ? this.#rehearsed(before) : this.#failed(before, failure);
      return {
        state: ended ?? before,
        edit: this.#isRehearsal(active)
          ? {
              record: removeVersion(record, pending.versionId),
              writes: [versionRemoval(secretName, pending.versionId)],
            }
          : { record: setVersionState(setStage(record, 'pending', undefined), pending.versionId, 'retired') },
      };
    });
    this.onEnd();
    const at = clock.now();
    if (failure === undefined) {
      events.next({ type: 'rehearsed', secretName, rotationId, at });
      const versionId = current?.versionId ?? '';
      return { state, result: { secretName, rotationId, versionId, previousVersionId: undefined } };
    }
    const failed = this.#failure(failure.step, undefined, true, failure.message);
    events.next({ type: 'undone', secretName, rotationId, at, versionId: pending.versionId });
    throw failed;
  }

  #isRehearsal({ reason }: ActiveRotation): boolean {
    return reason === 'rehearsal';
  }

  /** The state after a rehearsal that went through. */
  #rehearsed(state: RotationState): RotationState | undefined {
    const { active, ...rest } = state;
    if (active?.rotationId !== this.rotationId) return undefined;
    const { rotationId, reason, startedAt } = active;
    const endedAt = this.context.clock.now();
    return { ...rest, lastRehearsal: { rotationId, reason, startedAt, endedAt, outcome: 'rehearsed' } };
  }

  /** The state after this rotation was given up. */
  #failed(state: RotationState, failure: StepFailure): RotationState | undefined {
    const { active, ...rest } = state;
    if (active?.rotationId !== this.rotationId) return undefined;
    const { rotationId, reason, startedAt } = active;
    const endedAt = this.context.clock.now();
    const summary = { rotationId, reason, startedAt, endedAt, outcome: 'failed' as const, failure };
    if (this.#isRehearsal(active)) return { ...rest, lastRehearsal: summary };
    return { ...rest, failures: state.failures + 1, lastRotation: summary };
  }

  #failure(
    step: string,
    cause: Error | undefined,
    undone: boolean,
    message = cause?.message ?? '',
  ): RotationFailedError {
    const { secretName, rotationId } = this;
    const { events, clock } = this.context;
    if (undone)
      events.next({
        type: 'failed',
        secretName,
        rotationId,
        at: clock.now(),
        step: step as RotationStep,
        message,
        retryAt: undefined,
      });
    return new RotationFailedError(secretName, step, rotationId, message, { cause, undone });
  }

  async #advance(change: Partial<ActiveRotation>): Promise<ActiveRotation> {
    const state = await this.tenure.change((before) =>
      before.active?.rotationId === this.rotationId
        ? { ...before, active: { ...before.active, ...change } }
        : undefined,
    );
    if (state.active === undefined)
      throw new CorruptRecordError(`The rotation journal of ${this.secretName}`, 'it lost its rotation');
    return state.active;
  }

  async #active(): Promise<ActiveRotation> {
    const { active } = await this.tenure.read();
    if (active?.rotationId === this.rotationId) return active;
    throw new CorruptRecordError(`The rotation journal of ${this.secretName}`, 'it lost its rotation');
  }

  async #current(): Promise<SecretVersion | undefined> {
    const record = await this.context.versions.get(this.secretName);
    if (record.lease !== undefined && record.rotation !== undefined) {
      const validUntil = this.context.clock.now() + leaseTtlMs(record.rotation);
      this.#terms = { lease: { instanceId: record.lease.instanceId, validUntil } };
    }
    const version = versionAt(record, 'current');
    return version && loadVersion(this.context, this.secretName, version.id);
  }

  async #pending(active: ActiveRotation): Promise<SecretVersion> {
    if (active.versionId !== undefined) return loadVersion(this.context, this.secretName, active.versionId);
    throw new CorruptRecordError(
      `The rotation journal of ${this.secretName}`,
      `it is at ${active.step} without a version`,
    );
  }

  #stepContext(active: ActiveRotation, current: SecretVersion | undefined): RotationContext {
    return {
      secretName: this.secretName,
      rotationId: this.rotationId,
      current,
      signal: this.tenure.signal,
      clock: this.context.clock,
      notes: active.notes,
      assertHolder: () => this.tenure.assertHolder(),
      ...this.#terms,
    };
  }

  #pendingContext(active: ActiveRotation, current: SecretVersion | undefined, pending: SecretVersion): PendingContext {
    return {
      ...this.#stepContext(active, current),
      pending,
      record: async (notes) => {
        await this.#advance({ notes: { ...(await this.#active()).notes, ...notes } });
      },
    };
  }

  #announce(step: RotationStep, versionId: string | undefined): void {
    const { secretName, rotationId } = this;
    this.context.events.next({ type: 'step', secretName, rotationId, at: this.context.clock.now(), step, versionId });
  }

  /** A step that throws while the application shuts down, or when the lease was lost, has not failed: it is done again, here or elsewhere. */
  #throwWhenStopping(): void {
    if (this.context.signal.aborted) throw new RotationStoppedError(this.secretName);
    this.tenure.assertHolder();
  }
}
