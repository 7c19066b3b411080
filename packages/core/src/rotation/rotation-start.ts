import {
  isSecretsError,
  RehearsalUnsupportedError,
  RotationFailedError,
  RotationPolicyError,
  RotationStoppedError,
  SecretDeletedError,
} from '../foundation/errors.js';
import { versionAt } from '../versions/secret-record.js';
import type { EngineContext } from './engine-context.js';
import { FreeIdentity } from './free-identity.js';
import type { Retirement } from './retirement.js';
import type { Rollback } from './rollback.js';
import { isReplacing } from './rotation-events.js';
import type { RotationRequest } from './rotation-request.js';
import type { RotationResult } from './rotation-result.js';
import { RotationRun } from './rotation-run.js';
import { type ActiveRotation, failedRotation, type RotationState, type RotationSummary } from './rotation-state.js';
import { Tenure } from './rotation-tenure.js';
import type { SecretRotator } from './secret-rotator.js';
import { waitUntil } from './wait-until.js';

/** From a request to a rotation that runs: gets hold of the lease, waits its turn, and writes the rotation's beginning into the journal. */
export class RotationStart {
  readonly #identities: FreeIdentity;

  constructor(
    private readonly context: EngineContext,
    private readonly retirement: Retirement,
    private readonly rollback: Rollback,
  ) {
    this.#identities = new FreeIdentity(
      context,
      (secretName) => (wake) => retirement.onChange((name) => name === secretName && wake()),
    );
  }

  /** See `RotationEngine.rotate`. `ended` is called when the journal has the rotation's end. */
  async rotate(secretName: string, request: RotationRequest, ended: () => void): Promise<RotationResult | undefined> {
    const { rotation: policy, deletion } = await this.context.versions.get(secretName);
    // What was begun before still comes to its end.
    if (deletion !== undefined && request.goesOnWith === undefined)
      throw new SecretDeletedError(secretName, deletion.purgeAt);
    const entered = await this.#enter(secretName, request);
    if (!(entered instanceof Tenure)) return entered?.result;
    try {
      const state = await this.context.journal.read(secretName);
      const { active } = state;
      if (request.goesOnWith !== undefined && request.goesOnWith !== active?.rotationId) {
        this.retirement.start(entered, state);
        await entered.release();
        return undefined;
      }
      // What was left unfinished comes first. When that is a rotation as well, it is the one that was asked for.
      const isLeft = active !== undefined && !isReplacing(active.reason) && active.reason !== request.reason;
      if (isLeft) await this.#rotateUnder(entered, { reason: active.reason }, policy?.rotator, () => undefined);
      else return await this.#rotateUnder(entered, request, policy?.rotator, ended);
    } catch (error) {
      // The last retirement may have let go of the lease between entering and beginning.
      if (entered.isReleased && isSecretsError(error, 'ROTATION_INTERRUPTED'))
        return this.rotate(secretName, request, ended);
      // Where nothing was begun, or nothing can be gone on with, the lease must not stay here.
      if (isSecretsError(error, 'ROTATOR_NOT_FOUND')) {
        entered.end();
        await entered.abandon();
      } else await entered.release().catch(() => undefined);
      throw error;
    }
    return this.rotate(secretName, request, ended);
  }

  /** Sets the deadline of an emergency to everything that is under way. */
  async hurry(secretName: string, deadline: number): Promise<void> {
    await this.context.journal.annotate(secretName, (state) => {
      const soonest = (known: number | undefined): number => Math.min(known ?? Number.POSITIVE_INFINITY, deadline);
      if (state.active === undefined && state.obligations.length === 0) return undefined;
      return {
        ...state,
        ...(state.active === undefined
          ? {}
          : { active: { ...state.active, deadline: soonest(state.active.deadline) } }),
        obligations: state.obligations.map((other) => ({ ...other, deadline: soonest(other.deadline) })),
      };
    });
    this.retirement.changed(secretName);
  }

  async #rotateUnder(
    tenure: Tenure,
    request: RotationRequest,
    policyRotator: string | undefined,
    ended: () => void,
  ): Promise<RotationResult | undefined> {
    const { rotators, journal } = this.context;
    const { secretName } = tenure;
    if (request.deadline !== undefined) await this.hurry(secretName, request.deadline);
    let state = await journal.read(secretName);
    this.retirement.start(tenure, state);
    const rotatorName = state.active?.rotator ?? policyRotator;
    if (rotatorName === undefined) {
      throw new RotationPolicyError(
        secretName,
        `Secret ${secretName} has no rotation policy: set one with updateRotationPolicy or in its definition.`,
      );
    }
    const rotator = rotators.get(rotatorName, secretName);
    let busyIdentities = (): Promise<ReadonlySet<string>> => this.#identities.busy(secretName, rotatorName);
    if (state.active === undefined) {
      const begun = await this.#begin(tenure, request, rotatorName, rotator);
      if (!('state' in begun)) return begun.result;
      ({ state } = begun);
      const { busy } = begun;
      busyIdentities = async () => busy;
    }
    const { active } = state;
    if (active === undefined) return undefined;
    if (active.reason === 'rollback') return this.#rollBack(tenure, active, ended);
    const acting = active.reason === 'rehearsal' ? rehearsalOf(rotator, secretName) : rotator;
    const { context } = this;
    const { rotationId } = active;
    const run = new RotationRun({ context, tenure, rotator: acting, rotationId, busyIdentities, onEnd: ended });
    const { result, state: after } = await run.toPromotion();
    if (!tenure.signal.aborted) this.retirement.start(tenure, after);
    return result;
  }

  async #rollBack(tenure: Tenure, active: ActiveRotation, ended: () => void): Promise<RotationResult> {
    const state = await this.rollback.finish(tenure, active);
    ended();
    if (!tenure.signal.aborted) this.retirement.start(tenure, state);
    const { rotationId, versionId = '', failedVersionId } = active;
    return { secretName: tenure.secretName, rotationId, versionId, previousVersionId: failedVersionId };
  }

  /** Writes the beginning of a rotation ahead, once an identity is free; or says what makes it needless. */
  async #begin(
    tenure: Tenure,
    request: RotationRequest,
    rotatorName: string,
    rotator: SecretRotator,
  ): Promise<{ state: RotationState; busy: ReadonlySet<string> } | { readonly result: RotationResult | undefined }> {
    const { ids, clock, events, versions, signal } = this.context;
    const { secretName } = tenure;
    const { reason, deadline, after } = request;
    const rotationId = ids.next();
    if (reason === 'rehearsal') rehearsalOf(rotator, secretName);
    await this.#admit(tenure, request, rotatorName, rotationId);
    const busy =
      reason === 'rehearsal'
        ? await this.#identities.busy(secretName, rotatorName)
        : await this.#identities.wait(tenure, rotationId, rotatorName);
    if (signal.aborted) throw new RotationStoppedError(secretName);
    if (reason === 'first-version') {
      // Another instance that started at the same time may have been first: its value counts.
      const current = versionAt(await versions.get(secretName), 'current');
      if (current !== undefined) {
        await tenure.release();
        return { result: { secretName, rotationId, versionId: current.id, previousVersionId: undefined } };
      }
    }
    const startedAt = clock.now();
    let isDue = true;
    const state = await tenure.change((now) => {
      isDue = reason !== 'schedule' || now.lastRotation?.rotationId === after;
      if (now.active !== undefined) return undefined;
      if (!isDue) return now;
      const active: ActiveRotation = {
        rotationId,
        rotator: rotatorName,
        reason,
        step: 'create',
        startedAt,
        steps: [{ step: 'create', at: startedAt }],
        notes: {},
        ...(deadline === undefined ? {} : { deadline }),
      };
      return { ...now, active };
    });
    if (!isDue) return { result: undefined };
    events.next({ type: 'started', secretName, rotationId, at: startedAt, rotator: rotatorName, reason });
    return { state, busy };
  }

  /** Before anything is decrypted to look for a free identity. What may not be begun counts as a rotation that failed, so that the schedule backs off. */
  async #admit(tenure: Tenure, { reason }: RotationRequest, rotator: string, rotationId: string): Promise<void> {
    const { door, clock, events } = this.context;
    const { secretName } = tenure;
    const startedAt = clock.now();
    try {
      await door.check({ operation: 'createPendingVersion', secretName, rotator, rotationId, reason });
    } catch (error) {
      if (!isSecretsError(error, 'ACCESS_DENIED')) throw error;
      const { message } = error;
      const active: ActiveRotation = { rotationId, rotator, reason, step: 'create', startedAt, notes: {} };
      await tenure.change((state) =>
        state.active === undefined
          ? failedRotation({ ...state, active }, rotationId, { step: 'create', message }, clock.now())
          : undefined,
      );
      events.next({
        type: 'failed',
        secretName,
        rotationId,
        at: clock.now(),
        step: 'create',
        message,
        retryAt: undefined,
      });
      throw new RotationFailedError(secretName, 'create', rotationId, message, { cause: error, undone: true });
    }
  }

  /** The tenure, for whoever gets it; for a request by schedule nothing when another instance has it; otherwise what became of the rotation there. */
  async #enter(
    secretName: string,
    request: RotationRequest,
  ): Promise<Tenure | { readonly result: RotationResult } | undefined> {
    const { tenures, journal, clock, instances, signal } = this.context;
    for (;;) {
      const entered = await tenures.enter(secretName);
      if (entered instanceof Tenure) return entered;
      if (request.reason === 'schedule') return undefined;
      if (request.deadline !== undefined) await this.hurry(secretName, request.deadline);
      const { active } = entered;
      const joined =
        active !== undefined && isReplacing(active.reason) && isReplacing(request.reason) ? active : undefined;
      await this.#ask(secretName);
      let state = entered;
      await waitUntil(
        async () => {
          state = await journal.read(secretName);
          if (joined !== undefined)
            return state.active?.rotationId !== joined.rotationId || (await this.#isFree(state));
          return this.#isFree(state);
        },
        [
          (wake) => journal.watch((name) => (name === undefined || name === secretName) && wake()),
          (wake) => clock.after(instances.lookEveryMs, wake),
        ],
        signal,
        clock,
      );
      if (signal.aborted) throw new RotationStoppedError(secretName);
      if (joined !== undefined && state.active?.rotationId !== joined.rotationId)
        return outcomeOf(secretName, joined, state);
    }
  }

  /** Lets the holder know that this instance would like to have the lease. */
  async #ask(secretName: string): Promise<void> {
    const { journal, instance } = this.context;
    await journal.annotate(secretName, (state) =>
      state.lease === undefined || state.lease.holder === instance.id || state.lease.wantedBy === instance.id
        ? undefined
        : { ...state, lease: { ...state.lease, wantedBy: instance.id } },
    );
  }

  async #isFree({ lease }: RotationState): Promise<boolean> {
    const { instance, instances } = this.context;
    return lease === undefined || lease.holder === instance.id || instances.isGone(lease.holder);
  }
}

function rehearsalOf(rotator: SecretRotator, secretName: string): SecretRotator {
  const rehearsal = rotator.rehearsal?.();
  if (rehearsal === undefined) throw new RehearsalUnsupportedError(secretName);
  return rehearsal;
}

/** What became of a rotation that took place in another instance. */
function outcomeOf(
  secretName: string,
  joined: ActiveRotation,
  state: RotationState,
): { readonly result: RotationResult } {
  const { rotationId } = joined;
  const summaries: (RotationSummary | undefined)[] = [state.lastRotation, state.lastRehearsal];
  const summary = summaries.find((one) => one?.rotationId === rotationId);
  const { versionId, previousVersionId, failure, outcome } = summary ?? {};
  if (outcome === 'failed' || summary === undefined) {
    const why = failure?.message ?? 'another rotation has taken its place; see the rotation status';
    throw new RotationFailedError(secretName, failure?.step ?? 'apply', rotationId, why, {
      cause: undefined,
      undone: true,
    });
  }
  return { result: { secretName, rotationId, versionId: versionId ?? '', previousVersionId } };
}
