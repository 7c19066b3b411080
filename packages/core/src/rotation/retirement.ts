import { type Cancel, pause } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import { redactError } from '../foundation/redaction.js';
import type { StoreCondition } from '../store/store-driver.js';
import { setVersionState, versionAt } from '../versions/secret-record.js';
import { type EngineContext, loadVersion, messageOf, retryDelay } from './engine-context.js';
import type { RetireObligation, RotationState, SettleReport } from './rotation-state.js';
import { concludeRotation } from './rotation-reports.js';
import type { Tenure } from './rotation-tenure.js';
import type { RetireReport } from './secret-rotator.js';
import { Settling } from './settling.js';
import type { StepAsked, StepOperation } from './step-door.js';

/**
 * Carries out what rotations leave behind: each replaced version is retired once nobody holds it any more. Every obligation goes its own
 * way, so that one that never drains does not keep others waiting, and is tried again, with growing pauses, until it succeeds.
 */
export class Retirement {
  readonly #running = new Map<string, Promise<void>>();
  readonly #listeners = new Set<(secretName: string) => void>();

  constructor(
    private readonly context: EngineContext,
    /** Looks at what consumers reported while the obligation waits; true when its version was put back, so that there is nothing left to wait for. */
    private readonly putBack: (tenure: Tenure, obligation: RetireObligation) => Promise<boolean>,
  ) {}

  /** Starts work on every obligation in `state` that is not being worked on. */
  start(tenure: Tenure, state: RotationState): void {
    const { secretName } = tenure;
    for (const { versionId } of state.obligations) {
      const key = `${secretName}:${versionId}:${tenure.token}`;
      if (this.#running.has(key) || tenure.signal.aborted) continue;
      const work = this.#fulfil(tenure, versionId).finally(() => this.#running.delete(key));
      this.#running.set(key, work);
    }
  }

  /** Calls `listener` with the secret's name whenever an obligation has ended or changed; the function returned ends it. */
  onChange(listener: (secretName: string) => void): Cancel {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** To be called when obligations were changed from outside, as by an emergency that sets them a deadline. */
  changed(secretName: string): void {
    for (const listener of this.#listeners) listener(secretName);
  }

  /** Resolves when nothing is being worked on; meant for after the tenures were ended. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }

  async #fulfil(tenure: Tenure, versionId: string): Promise<void> {
    const { clock, randomness, events } = this.context;
    const { secretName, signal } = tenure;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      let rotationId = '';
      try {
        const { obligations } = await tenure.read();
        const obligation = obligations.find((one) => one.versionId === versionId);
        if (obligation === undefined) return;
        rotationId = obligation.rotationId;
        if (await this.#isToBeRetired(tenure, obligation)) {
          const report = await this.context.turns.take(secretName, signal, () => this.#retire(tenure, obligation));
          await this.#conclude(tenure, versionId, report);
          await this.#close(tenure, versionId, report);
          events.next({ type: 'retired', secretName, rotationId, at: clock.now(), versionId, report });
          void this.#tidy(secretName);
        }
        this.changed(secretName);
        return;
      } catch (error) {
        // Whoever has the lease now goes on with it.
        if (signal.aborted || isSecretsError(error, 'ROTATION_INTERRUPTED')) return;
        const delay = retryDelay(attempt, randomness);
        const at = clock.now();
        const message = messageOf(error);
        events.next({ type: 'failed', secretName, rotationId, at, step: 'retire', message, retryAt: at + delay });
        await pause(clock, delay, signal);
      }
    }
  }

  /** Waits until the version may go, and enters `retire`. False when it was made current again meanwhile. */
  async #isToBeRetired(tenure: Tenure, obligation: RetireObligation): Promise<boolean> {
    if (obligation.step === 'retire') return true;
    const asked = askedOf(tenure, 'settleVersion', obligation);
    await this.context.door.check(asked);
    for (;;) {
      const settling = new Settling(this.context, tenure, obligation, {
        onChange: (listener) => this.onChange(listener),
        putBack: () => this.putBack(tenure, obligation),
      });
      const settled = await settling.wait();
      if (settled === undefined) return false;
      const { report, condition } = settled;
      const entered = await this.context.door.step({ ...asked, settled: report }, () =>
        this.#enter(tenure, obligation, report, condition),
      );
      if (entered !== 'held-again') return entered;
    }
  }

  /**
   * From here on the version is no longer handed out, in the commit that also says so in the journal, on condition that nobody has taken it up
   * since it was found to be held by nobody. False when the version was made current again meanwhile: then there is nothing to retire any more.
   */
  async #enter(
    tenure: Tenure,
    { versionId }: RetireObligation,
    settled: SettleReport,
    condition: StoreCondition | undefined,
  ): Promise<boolean | 'held-again'> {
    const { store } = this.context.versions;
    let outcome: boolean | 'held-again' = true;
    await tenure.changeBoth(async (state, record) => {
      if (record === undefined || !state.obligations.some((other) => other.versionId === versionId)) return undefined;
      outcome = versionAt(record, 'current')?.id !== versionId;
      if (condition !== undefined && ((await store.get(condition.key))?.revision ?? 0) !== condition.revision) {
        outcome = 'held-again';
        return { state, edit: { record } };
      }
      const others = state.obligations.filter((other) => other.versionId !== versionId);
      return {
        state: {
          ...state,
          obligations: outcome
            ? state.obligations.map((other) =>
                other.versionId === versionId ? retiring(other, settled, this.context.clock.now()) : other,
              )
            : others,
        },
        edit: {
          record: setVersionState(record, versionId, outcome ? 'retiring' : 'live'),
          conditions: condition === undefined ? [] : [condition],
        },
      };
    });
    return outcome;
  }

  async #retire(tenure: Tenure, obligation: RetireObligation): Promise<RetireReport | undefined> {
    const { clock, rotators, events, door } = this.context;
    const { secretName, signal } = tenure;
    const { versionId, rotationId, notes } = obligation;
    const rotator = rotators.get(obligation.rotator, secretName);
    events.next({ type: 'step', secretName, rotationId, at: clock.now(), step: 'retire', versionId });
    return door.step(askedOf(tenure, 'retireVersion', obligation), async () => {
      const retiring = await loadVersion(this.context, secretName, versionId);
      const current = await loadVersion(this.context, secretName, await this.#currentVersionId(secretName, obligation));
      const assertHolder = (): void => tenure.assertHolder();
      try {
        assertHolder();
        const context = { secretName, rotationId, current, retiring, notes, signal, clock, assertHolder };
        return (await rotator.retire(context)) ?? undefined;
      } catch (error) {
        if (isSecretsError(error, 'ROTATION_INTERRUPTED')) throw error;
        throw redactError(error, [retiring.value, current.value]);
      }
    });
  }

  /** Before the commit that ends it: a report that could not be kept is made again, with the retirement. */
  async #conclude(tenure: Tenure, versionId: string, retired: RetireReport | undefined): Promise<void> {
    const { secretName } = tenure;
    const obligation = (await tenure.read()).obligations.find((other) => other.versionId === versionId);
    if (obligation === undefined) return;
    const { replacedBy, settled, reason } = obligation;
    await concludeRotation(this.context, secretName, obligation, {
      outcome: reason === 'rollback' ? 'rolled-back' : 'retired',
      versionId: replacedBy,
      previousVersionId: versionId,
      settled,
      retired,
    });
  }

  async #currentVersionId(secretName: string, { replacedBy }: RetireObligation): Promise<string> {
    const record = await this.context.versions.get(secretName);
    return versionAt(record, 'current')?.id ?? replacedBy;
  }

  async #close(tenure: Tenure, versionId: string, report: RetireReport | undefined): Promise<void> {
    await tenure.changeBoth((state, record) => {
      const obligation = state.obligations.find((other) => other.versionId === versionId);
      if (record === undefined || obligation === undefined) return undefined;
      const { settled } = obligation;
      const lastRetired = {
        versionId,
        at: this.context.clock.now(),
        ...(report === undefined ? {} : { report }),
        ...(settled === undefined ? {} : { settled }),
      };
      return {
        state: { ...state, obligations: state.obligations.filter((other) => other !== obligation), lastRetired },
        edit: { record: setVersionState(record, versionId, 'retired') },
      };
    });
  }

  async #tidy(secretName: string): Promise<void> {
    try {
      await this.context.consumers.tidy(secretName);
      await this.context.reports.tidy(secretName, (id) => this.context.instances.isGone(id));
    } catch {
      // What is left over is tidied up after the next retirement.
    }
  }
}

function askedOf({ secretName }: Tenure, operation: StepOperation, obligation: RetireObligation): StepAsked {
  const { rotator, rotationId, versionId, reason } = obligation;
  return { operation, secretName, rotator, rotationId, versionId, reason };
}

function retiring(obligation: RetireObligation, settled: SettleReport, at: number): RetireObligation {
  const steps = [...(obligation.steps ?? []), { step: 'retire' as const, at }];
  return { ...obligation, step: 'retire', steps, settled };
}
