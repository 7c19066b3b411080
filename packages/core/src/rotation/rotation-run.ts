import { CorruptRecordError, RotationFailedError, RotationStoppedError } from '../foundation/errors.js';
import { randomPassword } from '../foundation/random-password.js';
import { redactError } from '../foundation/redaction.js';
import { addVersion, nextVersionId, promote, setStage, setVersionState, versionAt } from '../versions/secret-record.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { RotationStep } from './rotation-events.js';
import type { RotationResult } from './rotation-result.js';
import type { ActiveRotation, RotationState } from './rotation-state.js';
import type { PendingContext, RotationContext, SecretRotator } from './secret-rotator.js';

/** One rotation from wherever its journal stands to promotion, or to being undone. */
export class RotationRun {
  constructor(
    private readonly context: EngineContext,
    private readonly secretName: string,
    private readonly rotator: SecretRotator,
    private readonly rotationId: string,
    private readonly busyIdentities: ReadonlySet<string>,
    /** Called when the journal has the end of this rotation, before anybody is told: who then asks for a rotation wants a new one. */
    private readonly onEnd: () => void,
  ) {}

  async toPromotion(): Promise<{ result: RotationResult; state: RotationState }> {
    const current = await this.#current();
    const begun = await this.#active();
    const active = begun.step === 'create' ? await this.#create(begun, current) : begun;
    return this.context.turns.take(this.secretName, () => this.#fromApply(active, current));
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
    const { definitions, randomness, versions, journal, clock } = this.context;
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
      await journal.change(this.secretName, (state) => this.#failed(state, { step: 'create', message: cause.message }));
      this.onEnd();
      throw this.#failure('create', cause, true);
    }
    // The pending version is durable before the target can learn of it: an ALTER that nobody remembers would lock everyone out.
    const { state } = await journal.changeBoth(this.secretName, async (before, record) => {
      if (record === undefined || before.active?.rotationId !== this.rotationId) return undefined;
      const versionId = nextVersionId(record);
      return {
        state: { ...before, active: { ...before.active, step: 'apply', versionId } },
        edit: {
          record: setStage(addVersion(record, versionId, clock.now()), 'pending', versionId),
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
    let advanced: Partial<ActiveRotation> | undefined = step === 'apply' ? { step: 'verify' } : undefined;
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
    const { journal, clock, events } = this.context;
    this.#announce('promote', versionId);
    let previousVersionId: string | undefined;
    const { state } = await journal.changeBoth(this.secretName, (before, record) => {
      const { active, ...rest } = before;
      if (record === undefined || active?.rotationId !== this.rotationId) return undefined;
      previousVersionId = versionAt(record, 'current')?.id;
      const now = clock.now();
      const { rotationId, rotator, startedAt, notes } = active;
      const promoted = promote(record, versionId, now);
      const { promotion } = promoted;
      const lastRotation = { rotationId, startedAt, endedAt: now, outcome: 'promoted' as const, versionId };
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

  /** Takes a failed rotation back, and always ends by throwing why it failed. */
  async #undo(active: ActiveRotation, current: SecretVersion | undefined, pending: SecretVersion): Promise<never> {
    const { journal, clock, events } = this.context;
    const { secretName, rotationId } = this;
    const failure = active.failure ?? { step: 'apply', message: 'unknown' };
    this.#announce('undo', pending.versionId);
    try {
      const context = this.#pendingContext(active, current, pending);
      if (this.rotator.undo !== undefined) await this.rotator.undo(context);
      else if (current !== undefined) await this.rotator.retire({ ...context, current, retiring: pending });
    } catch (error) {
      this.#throwWhenStopping();
      const cause = redactError(error, [current?.value, pending.value]);
      throw this.#failure(
        failure.step,
        cause,
        false,
        `${failure.message}; taking it back failed too, which is tried again: ${cause.message}`,
      );
    }
    await journal.changeBoth(secretName, (state, record) => {
      if (record === undefined || state.active?.rotationId !== rotationId) return undefined;
      return {
        state: this.#failed(state, failure) ?? state,
        edit: { record: setVersionState(setStage(record, 'pending', undefined), pending.versionId, 'retired') },
      };
    });
    this.onEnd();
    const failed = this.#failure(failure.step, undefined, true, failure.message);
    events.next({ type: 'undone', secretName, rotationId, at: clock.now(), versionId: pending.versionId });
    throw failed;
  }

  /** The state after this rotation was given up. */
  #failed(state: RotationState, failure: { step: string; message: string }): RotationState | undefined {
    const { active, ...rest } = state;
    if (active?.rotationId !== this.rotationId) return undefined;
    const { rotationId, startedAt } = active;
    const lastRotation = {
      rotationId,
      startedAt,
      endedAt: this.context.clock.now(),
      outcome: 'failed' as const,
      failure,
    };
    return { ...rest, failures: state.failures + 1, lastRotation };
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
    const state = await this.context.journal.change(this.secretName, (before) =>
      before.active?.rotationId === this.rotationId
        ? { ...before, active: { ...before.active, ...change } }
        : undefined,
    );
    if (state.active === undefined)
      throw new CorruptRecordError(`The rotation journal of ${this.secretName}`, 'it lost its rotation');
    return state.active;
  }

  async #active(): Promise<ActiveRotation> {
    const { active } = await this.context.journal.read(this.secretName);
    if (active?.rotationId === this.rotationId) return active;
    throw new CorruptRecordError(`The rotation journal of ${this.secretName}`, 'it lost its rotation');
  }

  async #current(): Promise<SecretVersion | undefined> {
    const version = versionAt(await this.context.versions.get(this.secretName), 'current');
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
    const { signal, clock } = this.context;
    return {
      secretName: this.secretName,
      rotationId: this.rotationId,
      current,
      signal,
      clock,
      notes: active.notes,
      assertHolder: () => undefined,
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

  /** A step that throws while the application shuts down has not failed: it is done again after the next start. */
  #throwWhenStopping(): void {
    if (this.context.signal.aborted) throw new RotationStoppedError(this.secretName);
  }
}
