import { pause } from '../foundation/clock.js';
import { redactError } from '../foundation/redaction.js';
import { setVersionState, versionAt } from '../versions/secret-record.js';
import { type EngineContext, loadVersion, retryDelay } from './engine-context.js';
import type { RetireObligation, RotationState } from './rotation-state.js';
import type { RetireReport } from './secret-rotator.js';
import { waitUntil } from './wait-until.js';

/**
 * Carries out what rotations leave behind: each replaced version is retired once nobody holds it any more. Every obligation goes its own
 * way, so that one that never drains does not keep others waiting, and is tried again, with growing pauses, until it succeeds.
 */
export class Retirement {
  readonly #running = new Map<string, Promise<void>>();
  readonly #listeners = new Set<(secretName: string) => void>();

  constructor(private readonly context: EngineContext) {}

  /** Starts work on every obligation in `state` that is not being worked on. */
  start(secretName: string, state: RotationState): void {
    for (const { versionId } of state.obligations) {
      const key = `${secretName}:${versionId}`;
      if (this.#running.has(key) || this.context.signal.aborted) continue;
      const work = this.#fulfil(secretName, versionId).finally(() => this.#running.delete(key));
      this.#running.set(key, work);
    }
  }

  /** Calls `listener` with the secret's name whenever an obligation has ended; the function returned ends it. */
  onEnded(listener: (secretName: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when nothing is being worked on; meant for after the engine's signal was aborted. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running.values());
  }

  async #fulfil(secretName: string, versionId: string): Promise<void> {
    const { signal, clock, randomness, events } = this.context;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      let rotationId = '';
      try {
        const obligation = await this.#obligation(secretName, versionId);
        if (obligation === undefined) return;
        rotationId = obligation.rotationId;
        await this.#settle(secretName, obligation);
        if (signal.aborted) return;
        if (await this.#enter(secretName, obligation)) {
          const report = await this.context.turns.take(secretName, () => this.#retire(secretName, obligation));
          await this.#close(secretName, versionId, report);
          events.next({ type: 'retired', secretName, rotationId, at: clock.now(), versionId, report });
        }
        for (const listener of this.#listeners) listener(secretName);
        return;
      } catch (error) {
        if (signal.aborted) return;
        const delay = retryDelay(attempt, randomness);
        const message = error instanceof Error ? error.message : 'unknown error';
        events.next({
          type: 'failed',
          secretName,
          rotationId,
          at: clock.now(),
          step: 'retire',
          message,
          retryAt: clock.now() + delay,
        });
        await pause(clock, delay, signal);
      }
    }
  }

  async #obligation(secretName: string, versionId: string): Promise<RetireObligation | undefined> {
    const state = await this.context.journal.read(secretName);
    return state.obligations.find((obligation) => obligation.versionId === versionId);
  }

  /** Waits until nobody holds the version. There is no deadline: only the last holder letting go, or a shutdown, ends it. */
  async #settle(secretName: string, obligation: RetireObligation): Promise<void> {
    const { acknowledgements, clock, events, signal } = this.context;
    const { versionId, rotationId } = obligation;
    let told = '';
    const nobodyHolds = async (): Promise<boolean> => {
      const holders = await this.#holders(secretName, obligation);
      if (holders.length > 0 && holders.join() !== told) {
        told = holders.join();
        events.next({ type: 'settling', secretName, rotationId, at: clock.now(), versionId, holders });
      }
      return holders.length === 0;
    };
    await waitUntil(
      nobodyHolds,
      [(wake) => acknowledgements.onAcknowledgement(wake), (wake) => this.onEnded(wake)],
      signal,
    );
  }

  /**
   * Who keeps the version from being retired. Among them are older versions of the same identity: what ends the sessions of a newer one
   * could not tell theirs apart.
   */
  async #holders(secretName: string, { versionId, promotion, rotator }: RetireObligation): Promise<string[]> {
    const holders = this.context.acknowledgements.holders(secretName, versionId, promotion);
    const rotatorOf = this.context.rotators.get(rotator, secretName);
    if (holders.length > 0 || rotatorOf.identityOf === undefined) return holders;
    const { obligations } = await this.context.journal.read(secretName);
    const older = obligations.slice(
      0,
      obligations.findIndex((other) => other.versionId === versionId),
    );
    if (older.length === 0) return holders;
    const identity = async (id: string): Promise<string> =>
      rotatorOf.identityOf?.((await loadVersion(this.context, secretName, id)).value) ?? id;
    const own = await identity(versionId);
    for (const other of older)
      if ((await identity(other.versionId)) === own) holders.push(`the older version ${other.versionId}`);
    return holders;
  }

  /**
   * From here on the version is no longer handed out, in the commit that also says so in the journal. False when the version was made
   * current again meanwhile: then there is nothing to retire any more.
   */
  async #enter(secretName: string, { versionId, step }: RetireObligation): Promise<boolean> {
    if (step === 'retire') return true;
    let wanted = true;
    await this.context.journal.changeBoth(secretName, (state, record) => {
      if (record === undefined || !state.obligations.some((other) => other.versionId === versionId)) return undefined;
      wanted = versionAt(record, 'current')?.id !== versionId;
      const others = state.obligations.filter((other) => other.versionId !== versionId);
      return {
        state: {
          ...state,
          obligations: wanted
            ? state.obligations.map((other) =>
                other.versionId === versionId ? { ...other, step: 'retire' as const } : other,
              )
            : others,
        },
        edit: { record: setVersionState(record, versionId, wanted ? 'retiring' : 'live') },
      };
    });
    return wanted;
  }

  async #retire(secretName: string, obligation: RetireObligation): Promise<RetireReport | undefined> {
    const { clock, rotators, signal, events } = this.context;
    const { versionId, rotationId, notes } = obligation;
    const rotator = rotators.get(obligation.rotator, secretName);
    const retiring = await loadVersion(this.context, secretName, versionId);
    const current = await loadVersion(this.context, secretName, await this.#currentVersionId(secretName, obligation));
    events.next({ type: 'step', secretName, rotationId, at: clock.now(), step: 'retire', versionId });
    try {
      const assertHolder = (): void => undefined;
      return (
        (await rotator.retire({ secretName, rotationId, current, retiring, notes, signal, clock, assertHolder })) ??
        undefined
      );
    } catch (error) {
      throw redactError(error, [retiring.value, current.value]);
    }
  }

  async #currentVersionId(secretName: string, { replacedBy }: RetireObligation): Promise<string> {
    const record = await this.context.versions.get(secretName);
    return versionAt(record, 'current')?.id ?? replacedBy;
  }

  async #close(secretName: string, versionId: string, report: RetireReport | undefined): Promise<void> {
    const lastRetired = { versionId, at: this.context.clock.now(), ...(report === undefined ? {} : { report }) };
    await this.context.journal.changeBoth(secretName, (state, record) => {
      if (record === undefined || !state.obligations.some((other) => other.versionId === versionId)) return undefined;
      const obligations = state.obligations.filter((other) => other.versionId !== versionId);
      return {
        state: { ...state, obligations, lastRetired },
        edit: { record: setVersionState(record, versionId, 'retired') },
      };
    });
  }
}
