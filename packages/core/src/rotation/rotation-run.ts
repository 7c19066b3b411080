import { CorruptRecordError, isSecretsError, RotationFailedError, RotationStoppedError } from '../foundation/errors.js';
import { randomPassword } from '../foundation/random-password.js';
import { redactError } from '../foundation/redaction.js';
import { addVersion, nextVersionId, removeVersion, setStage, setVersionState } from '../versions/secret-record.js';
import { versionRemoval } from '../versions/sealed-values.js';
import { type EngineContext, messageOf } from './engine-context.js';
import { promotion } from './promotion.js';
import type { RotationStep } from './rotation-events.js';
import { concludeRotation } from './rotation-reports.js';
import type { RotationResult } from './rotation-result.js';
import {
  type ActiveRotation,
  atStep,
  failedRotation,
  rehearsedRotation,
  type RotationState,
  type StepFailure,
} from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import type { SecretRotator } from './secret-rotator.js';
import { isUnrecorded, type StepAsked, type StepOperation } from './step-door.js';
import { type LoadedValues, StepValues } from './step-values.js';

interface Outcome {
  readonly result: RotationResult;
  readonly state: RotationState;
}

export interface RotationRunParts {
  readonly context: EngineContext;
  readonly tenure: Tenure;
  readonly rotator: SecretRotator;
  readonly rotationId: string;
  /** Identities that `create` must not take. */
  readonly busyIdentities: () => Promise<ReadonlySet<string>>;
  /** Called when the journal has the end of this rotation, before anybody is told: who then asks for a rotation wants a new one. */
  readonly onEnd: () => void;
}

/** One rotation from wherever its journal stands to promotion, or to being undone. Nothing is decrypted for a step that is not let in. */
export class RotationRun {
  readonly #context: EngineContext;
  readonly #tenure: Tenure;
  readonly #secretName: string;
  readonly #values: StepValues;

  constructor(private readonly parts: RotationRunParts) {
    this.#context = parts.context;
    this.#tenure = parts.tenure;
    this.#secretName = parts.tenure.secretName;
    this.#values = new StepValues(parts.context, parts.tenure, parts.rotationId, async (notes) => {
      await this.#advance((before) => ({ ...before, notes: { ...before.notes, ...notes } }));
    });
  }

  async toPromotion(): Promise<Outcome> {
    const begun = await this.#active();
    const active = begun.step === 'create' ? await this.#create(begun) : begun;
    return this.#context.turns.take(this.#secretName, this.#tenure.signal, () => this.#fromApply(active));
  }

  async #fromApply(created: ActiveRotation): Promise<Outcome> {
    let active = created;
    if (active.step === 'apply') active = await this.#forward(active, 'apply');
    if (active.step === 'verify') active = await this.#forward(active, 'verify');
    if (active.step !== 'undo') {
      const promoted = await this.#promote(active);
      if (!('failure' in promoted)) return promoted;
      active = await this.#advance((before) => ({ ...atStep(before, 'undo', this.#now()), ...promoted }));
    }
    return this.#undo(active);
  }

  async #create(active: ActiveRotation): Promise<ActiveRotation> {
    this.#announce('create', undefined);
    let hasBegun = false;
    try {
      return await this.#context.door.step(this.#asked('createPendingVersion', active), () => {
        hasBegun = true;
        return this.#makePending(active);
      });
    } catch (error) {
      if (hasBegun || !isSecretsError(error, 'ACCESS_DENIED')) throw error;
      throw await this.#giveUp(active, error);
    }
  }

  async #makePending(active: ActiveRotation): Promise<ActiveRotation> {
    const { definitions, randomness, versions } = this.#context;
    const current = await this.#values.current();
    const busyIdentities = await this.parts.busyIdentities();
    let value: unknown;
    try {
      value = await this.parts.rotator.create({
        ...this.#values.stepContext(active, current),
        busyIdentities,
        randomPassword: (options = {}) => randomPassword(options, randomness),
      });
      await definitions.check(this.#secretName, value);
    } catch (error) {
      this.#throwWhenStopping();
      if (isUnrecorded(error)) throw error;
      throw await this.#giveUp(active, redactError(error, [current?.value, value]));
    }
    // The pending version is durable before the target can learn of it: an ALTER that nobody remembers would lock everyone out.
    const { state } = await this.#tenure.changeBoth(async (before, record) => {
      if (record === undefined || before.active?.rotationId !== this.parts.rotationId) return undefined;
      const versionId = nextVersionId(record);
      const added = addVersion(record, versionId, this.#now());
      return {
        state: { ...before, active: { ...atStep(before.active, 'apply', this.#now()), versionId } },
        edit: {
          // What is only rehearsed must never be handed out.
          record: isRehearsal(active)
            ? setVersionState(added, versionId, 'retiring')
            : setStage(added, 'pending', versionId),
          writes: [await versions.sealValue(this.#secretName, versionId, value, record.key)],
        },
      };
    });
    return state.active ?? active;
  }

  /** Carries out `apply` or `verify` and journals what comes next: the following step, or `undo` when it threw or was denied. */
  async #forward(active: ActiveRotation, step: 'apply' | 'verify'): Promise<ActiveRotation> {
    this.#announce(step, active.versionId);
    const operation = step === 'apply' ? 'applyPendingVersion' : 'verifyPendingVersion';
    const failure = await this.#try(active, operation, async (values) => {
      await this.parts.rotator[step](this.#values.pendingContext(active, values));
    });
    const now = this.#now();
    if (failure !== undefined) {
      const { message } = failure;
      return this.#advance((before) => ({ ...atStep(before, 'undo', now), failure: { step, message } }));
    }
    if (step === 'apply') return this.#advance((before) => atStep(before, 'verify', now));
    return isRehearsal(active) ? this.#advance((before) => atStep(before, 'undo', now)) : this.#active();
  }

  /**
   * Goes through the door and does the work of a step. Returns what the step failed with, redacted; throws what is no failure of the step, since it
   * never began or is to be done again.
   */
  async #try(
    active: ActiveRotation,
    operation: StepOperation,
    work: (values: LoadedValues) => Promise<void>,
  ): Promise<Error | undefined> {
    let hasBegun = false;
    try {
      await this.#context.door.step(this.#asked(operation, active), async () => {
        const values = await this.#values.of(active);
        hasBegun = true;
        await work(values);
      });
      return undefined;
    } catch (error) {
      this.#throwWhenStopping();
      const isDenied = isSecretsError(error, 'ACCESS_DENIED');
      if (isUnrecorded(error) || (!hasBegun && !isDenied)) throw error;
      return redactError(error, [this.#values.loaded?.current?.value, this.#values.loaded?.pending.value]);
    }
  }

  async #promote(active: ActiveRotation): Promise<Outcome | { readonly failure: StepFailure }> {
    const versionId = this.#values.versionIdOf(active);
    this.#announce('promote', versionId);
    let hasBegun = false;
    try {
      return await this.#context.door.step(this.#asked('promoteVersion', active), async () => {
        hasBegun = true;
        // With nothing to retire, this is the end of it.
        if ((await this.#values.of(active)).current === undefined) {
          const steps = atStep(active, 'promote', this.#now()).steps;
          await concludeRotation(
            this.#context,
            this.#secretName,
            { ...active, steps },
            { outcome: 'promoted', versionId },
          );
        }
        return this.#commitPromotion(versionId);
      });
    } catch (error) {
      if (hasBegun || !isSecretsError(error, 'ACCESS_DENIED')) throw error;
      return { failure: { step: 'promote', message: error.message } };
    }
  }

  async #commitPromotion(versionId: string): Promise<Outcome> {
    const { events } = this.#context;
    const { rotationId } = this.parts;
    const { state } = await this.#tenure.changeBoth((before, record) =>
      promotion(before, record, rotationId, versionId, this.#now()),
    );
    const previousVersionId = state.lastRotation?.previousVersionId;
    const secretName = this.#secretName;
    this.parts.onEnd();
    events.next({ type: 'promoted', secretName, rotationId, at: this.#now(), versionId, previousVersionId });
    return { state, result: { secretName, rotationId, versionId, previousVersionId } };
  }

  /** Takes a rotation back: one that failed, which then ends by throwing why, or one that was but a rehearsal. */
  async #undo(active: ActiveRotation): Promise<Outcome> {
    const { events } = this.#context;
    const secretName = this.#secretName;
    const { rotationId, rotator } = this.parts;
    const { failure } = active;
    const pendingId = this.#values.versionIdOf(active);
    this.#announce('undo', pendingId);
    const cause = await this.#try(active, 'undoRotation', async (values) => {
      const context = this.#values.pendingContext(active, values);
      if (rotator.undo !== undefined) await rotator.undo(context);
      else if (values.current !== undefined)
        await rotator.retire({ ...context, current: values.current, retiring: values.pending });
    });
    if (cause !== undefined) {
      const before = failure === undefined ? '' : `${failure.message}; `;
      const message = `${before}taking it back failed${failure === undefined ? '' : ' too'}, which is tried again: ${cause.message}`;
      throw this.#failure(failure?.step ?? 'undo', cause, false, message);
    }
    const current = this.#values.loaded?.current;
    await concludeRotation(this.#context, secretName, active, {
      outcome: failure === undefined ? 'rehearsed' : 'failed',
      versionId: current?.versionId,
      failure,
    });
    const { state } = await this.#tenure.changeBoth((before, record) => {
      if (record === undefined || before.active?.rotationId !== rotationId) return undefined;
      const ended =
        failure === undefined
          ? rehearsedRotation(before, rotationId, this.#now())
          : failedRotation(before, rotationId, failure, this.#now());
      return {
        state: ended ?? before,
        edit: isRehearsal(active)
          ? { record: removeVersion(record, pendingId), writes: [versionRemoval(secretName, pendingId)] }
          : { record: setVersionState(setStage(record, 'pending', undefined), pendingId, 'retired') },
      };
    });
    this.parts.onEnd();
    const at = this.#now();
    if (failure === undefined) {
      events.next({ type: 'rehearsed', secretName, rotationId, at });
      const versionId = current?.versionId ?? '';
      return { state, result: { secretName, rotationId, versionId, previousVersionId: undefined } };
    }
    const failed = this.#failure(failure.step, undefined, true, failure.message);
    events.next({ type: 'undone', secretName, rotationId, at, versionId: pendingId });
    throw failed;
  }

  /** Ends a rotation that has made nothing yet. */
  async #giveUp(active: ActiveRotation, cause: Error): Promise<RotationFailedError> {
    const failure = { step: 'create', message: messageOf(cause) };
    await concludeRotation(this.#context, this.#secretName, active, { outcome: 'failed', failure });
    await this.#tenure.change((state) => failedRotation(state, this.parts.rotationId, failure, this.#now()));
    this.parts.onEnd();
    return this.#failure('create', cause, true);
  }

  #failure(
    step: string,
    cause: Error | undefined,
    undone: boolean,
    message = cause?.message ?? '',
  ): RotationFailedError {
    const secretName = this.#secretName;
    const { rotationId } = this.parts;
    if (undone) {
      const told = { secretName, rotationId, at: this.#now(), step: step as RotationStep, message };
      this.#context.events.next({ type: 'failed', ...told, retryAt: undefined });
    }
    return new RotationFailedError(secretName, step, rotationId, message, { cause, undone });
  }

  async #advance(change: (active: ActiveRotation) => ActiveRotation): Promise<ActiveRotation> {
    const state = await this.#tenure.change((before) =>
      before.active?.rotationId === this.parts.rotationId ? { ...before, active: change(before.active) } : undefined,
    );
    if (state.active === undefined) throw this.#corrupt('it lost its rotation');
    return state.active;
  }

  async #active(): Promise<ActiveRotation> {
    const { active } = await this.#tenure.read();
    if (active?.rotationId === this.parts.rotationId) return active;
    throw this.#corrupt('it lost its rotation');
  }

  #corrupt(why: string): CorruptRecordError {
    return new CorruptRecordError(`The rotation journal of ${this.#secretName}`, why);
  }

  #asked(operation: StepOperation, { rotator, versionId, reason }: ActiveRotation): StepAsked {
    const { rotationId } = this.parts;
    return { operation, secretName: this.#secretName, rotator, rotationId, versionId, reason };
  }

  #announce(step: RotationStep, versionId: string | undefined): void {
    const { rotationId } = this.parts;
    this.#context.events.next({
      type: 'step',
      secretName: this.#secretName,
      rotationId,
      at: this.#now(),
      step,
      versionId,
    });
  }

  #now(): number {
    return this.#context.clock.now();
  }

  /** A step that throws while the application shuts down, or when the lease was lost, has not failed: it is done again, here or elsewhere. */
  #throwWhenStopping(): void {
    if (this.#context.signal.aborted) throw new RotationStoppedError(this.#secretName);
    this.#tenure.assertHolder();
  }
}

function isRehearsal({ reason }: ActiveRotation): boolean {
  return reason === 'rehearsal';
}
