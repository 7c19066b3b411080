import type { CredentialFailure } from '../fleet/failure-reports.js';
import { isSecretsError, RotationStoppedError } from '../foundation/errors.js';
import { redactError } from '../foundation/redaction.js';
import { promote, setVersionState, versionAt } from '../versions/secret-record.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { type EngineContext, loadVersion, messageOf } from './engine-context.js';
import type { ActiveRotation, RetireObligation, RotationState } from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import type { PendingContext, SecretRotator } from './secret-rotator.js';
import type { StepAsked, StepOperation } from './step-door.js';

/** So many reports are believed against a look that finds nothing: what a server lets this host do it may refuse to another. */
const BELIEVED_REPORTS = 3;

/**
 * Puts the version before back when consumers cannot work with the current one: as long as the one before is not being retired. What they report is a
 * reason to look again, with the rotator's own `verify`; it is believed without that when it comes again and again and was not so before.
 */
export class Rollback {
  readonly #seen = new Map<string, number>();

  constructor(private readonly context: EngineContext) {}

  /** Begins a rollback when there is reason to, in the commit that also takes the old version's retirement off the list. */
  async beginIfFounded(tenure: Tenure, obligation: RetireObligation): Promise<RotationState | undefined> {
    const { secretName } = tenure;
    const record = await this.context.versions.get(secretName);
    const current = versionAt(record, 'current');
    if (current === undefined || current.id !== obligation.replacedBy) return undefined;
    const reports = await this.context.reports.read(secretName);
    const against = reports.filter(({ versionId }) => versionId === current.id);
    const key = `${secretName}:${current.id}:${tenure.token}`;
    if (against.length <= (this.#seen.get(key) ?? 0)) return undefined;
    const before = reports.filter(({ versionId }) => versionId === obligation.versionId);
    const message = await this.#admittedReason(tenure, obligation, current.id, () =>
      this.context.turns.take(secretName, tenure.signal, () =>
        this.#reason(tenure, obligation, current.id, against, before),
      ),
    );
    this.#seen.set(key, against.length);
    const { events, clock } = this.context;
    const { rotationId } = obligation;
    const confirmed = message !== undefined;
    const told = { secretName, rotationId, at: clock.now(), versionId: current.id, failures: against };
    events.next({ type: 'suspected', ...told, confirmed, message });
    if (!confirmed) return undefined;
    this.#seen.delete(key);
    return this.#begin(tenure, obligation, current.id, message);
  }

  /** Carries a rollback that was begun, here or before a crash, to its end. */
  async finish(tenure: Tenure, active: ActiveRotation): Promise<RotationState> {
    return this.context.door.step(askedOf(tenure, 'rollBackRotation', active, active.versionId), () =>
      this.#finish(tenure, active),
    );
  }

  async #finish(tenure: Tenure, active: ActiveRotation): Promise<RotationState> {
    const { secretName } = tenure;
    const { versionId = '', failedVersionId = '' } = active;
    await this.context.turns.take(secretName, tenure.signal, () =>
      this.#makeValidAgain(tenure, active, versionId, failedVersionId),
    );
    const { clock, events } = this.context;
    const message = active.failure?.message ?? '';
    const { state } = await tenure.changeBoth((before, record) => {
      const { active: begun, ...rest } = before;
      if (record === undefined || begun?.rotationId !== active.rotationId) return undefined;
      const now = clock.now();
      const promoted = promote(record, versionId, now);
      const { rotationId, rotator, startedAt, notes } = begun;
      const obligation: RetireObligation = {
        versionId: failedVersionId,
        replacedBy: versionId,
        promotion: promoted.promotion,
        rotationId,
        rotator,
        step: 'settle',
        since: now,
        reason: 'rollback',
        steps: [...(begun.steps ?? []), { step: 'promote', at: now }, { step: 'settle', at: now }],
        notes,
      };
      const lastRotation = {
        rotationId,
        reason: 'rollback' as const,
        startedAt,
        endedAt: now,
        outcome: 'rolled-back' as const,
        versionId,
        previousVersionId: failedVersionId,
        failure: begun.failure ?? { step: 'settle', message: '' },
      };
      const failures = rest.failures + (begun.failuresBefore ?? 0) + 1;
      return {
        state: { ...rest, failures, lastRotation, obligations: [...rest.obligations, obligation] },
        edit: { record: setVersionState(promoted, failedVersionId, 'draining') },
      };
    });
    const { rotationId } = active;
    events.next({ type: 'rolled-back', secretName, rotationId, at: clock.now(), versionId, failedVersionId, message });
    return state;
  }

  /** The reason for a rollback that the rotator may look for and carry out; without leave for either there is none. */
  async #admittedReason(
    tenure: Tenure,
    obligation: RetireObligation,
    currentId: string,
    look: () => Promise<string | undefined>,
  ): Promise<string | undefined> {
    const { door } = this.context;
    const about = { ...obligation, reason: 'rollback' } as const;
    try {
      const found = await door.step(askedOf(tenure, 'verifyPendingVersion', about, currentId), look);
      if (found !== undefined) await door.check(askedOf(tenure, 'rollBackRotation', about, obligation.versionId));
      return found;
    } catch (error) {
      if (isSecretsError(error, 'ACCESS_DENIED')) return undefined;
      throw error;
    }
  }

  async #begin(
    tenure: Tenure,
    { versionId, rotator, notes, failuresBefore }: RetireObligation,
    failedVersionId: string,
    message: string,
  ): Promise<RotationState | undefined> {
    const { clock, ids } = this.context;
    let begun = false;
    const { state } = await tenure.changeBoth((before, record) => {
      const obligation = before.obligations.find((other) => other.versionId === versionId);
      begun =
        record !== undefined &&
        before.active === undefined &&
        obligation?.step === 'settle' &&
        versionAt(record, 'current')?.id === failedVersionId;
      if (record === undefined) return undefined;
      if (!begun) return { state: before, edit: { record } };
      const active: ActiveRotation = {
        rotationId: ids.next(),
        rotator,
        reason: 'rollback',
        step: 'apply',
        startedAt: clock.now(),
        steps: [{ step: 'apply', at: clock.now() }],
        versionId,
        failedVersionId,
        notes,
        failure: { step: 'settle', message },
        ...(failuresBefore === undefined ? {} : { failuresBefore }),
      };
      return {
        state: { ...before, active, obligations: before.obligations.filter((other) => other !== obligation) },
        edit: { record: setVersionState(record, versionId, 'live') },
      };
    });
    return begun ? state : undefined;
  }

  /** Why the current version does not work; undefined when it does, or when nothing can be said. */
  async #reason(
    tenure: Tenure,
    obligation: RetireObligation,
    currentId: string,
    against: readonly CredentialFailure[],
    before: readonly CredentialFailure[],
  ): Promise<string | undefined> {
    const { secretName } = tenure;
    const rotator = this.context.rotators.get(obligation.rotator, secretName);
    const [current, previous] = [
      await loadVersion(this.context, secretName, currentId),
      await loadVersion(this.context, secretName, obligation.versionId),
    ];
    try {
      await rotator.verify(this.#pendingContext(tenure, obligation, current, previous));
    } catch (error) {
      this.#throwWhenInterrupted(tenure, error);
      // When the version before is found wanting too, it is the target that is in trouble and not the credential. It is looked at by itself:
      // there is nothing to compare it with, and rotators refuse to be given one identity twice.
      if (await this.#fails(tenure, rotator, this.#pendingContext(tenure, obligation, previous, undefined)))
        return undefined;
      return messageOf(redactError(error, [current.value, previous.value]));
    }
    const habits = new Set(before.map(({ kind, code, consumer }) => `${kind} ${code} ${consumer}`));
    const unusual = against.filter(({ kind, code, consumer }) => !habits.has(`${kind} ${code} ${consumer}`));
    if (unusual.length < BELIEVED_REPORTS) return undefined;
    const told = [...new Set(unusual.map(({ kind, code, consumer }) => `${consumer}: ${kind} (${code})`))];
    return `consumers are refused with it: ${told.slice(0, 5).join('; ')}`;
  }

  async #fails(tenure: Tenure, rotator: SecretRotator, context: PendingContext): Promise<boolean> {
    try {
      await rotator.verify(context);
      return false;
    } catch (error) {
      this.#throwWhenInterrupted(tenure, error);
      return true;
    }
  }

  /** Where both versions are of one identity, applying the new value has made the old one invalid. */
  async #makeValidAgain(
    tenure: Tenure,
    active: ActiveRotation,
    versionId: string,
    failedVersionId: string,
  ): Promise<void> {
    const { secretName } = tenure;
    const rotator = this.context.rotators.get(active.rotator, secretName);
    const [previous, failed] = [
      await loadVersion(this.context, secretName, versionId),
      await loadVersion(this.context, secretName, failedVersionId),
    ];
    const isOneIdentity =
      rotator.identityOf !== undefined && rotator.identityOf(previous.value) === rotator.identityOf(failed.value);
    if (!isOneIdentity || rotator.undo === undefined) return;
    try {
      tenure.assertHolder();
      await rotator.undo(this.#pendingContext(tenure, active, failed, previous));
    } catch (error) {
      this.#throwWhenInterrupted(tenure, error);
      throw redactError(error, [previous.value, failed.value]);
    }
  }

  #pendingContext(
    tenure: Tenure,
    { rotationId, notes }: Pick<ActiveRotation, 'rotationId' | 'notes'>,
    pending: SecretVersion,
    current: SecretVersion | undefined,
  ): PendingContext {
    return {
      secretName: tenure.secretName,
      rotationId,
      current,
      pending,
      signal: tenure.signal,
      clock: this.context.clock,
      notes,
      assertHolder: () => tenure.assertHolder(),
      // The steps that note something before they act are those of the rotation itself.
      record: async () => undefined,
    };
  }

  #throwWhenInterrupted(tenure: Tenure, error: unknown): void {
    if (this.context.signal.aborted) throw new RotationStoppedError(tenure.secretName);
    if (isSecretsError(error, 'ROTATION_INTERRUPTED')) throw error;
    tenure.assertHolder();
  }
}

function askedOf(
  { secretName }: Tenure,
  operation: StepOperation,
  { rotator, rotationId, reason }: Pick<ActiveRotation, 'rotator' | 'rotationId' | 'reason'>,
  versionId: string | undefined,
): StepAsked {
  return { operation, secretName, rotator, rotationId, versionId, reason };
}
