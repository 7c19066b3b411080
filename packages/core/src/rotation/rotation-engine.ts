import { Observable, Subject } from 'rxjs';
import { type Cancel, pause } from '../foundation/clock.js';
import {
  RotationFailedError,
  RotationPolicyError,
  RotationStoppedError,
  isSecretsError,
} from '../foundation/errors.js';
import { versionAt } from '../versions/secret-record.js';
import { type EngineContext, loadVersion, retryDelay } from './engine-context.js';
import { Retirement } from './retirement.js';
import { RotationRun } from './rotation-run.js';
import type { RotationEvent, RotationReason } from './rotation-events.js';
import type { RotationResult } from './rotation-result.js';
import type { RotationState } from './rotation-state.js';
import { TargetTurns } from './target-turns.js';
import { waitUntil } from './wait-until.js';

const STOP_LIMIT_MS = 10_000;

/**
 * Rotates secrets: `create → apply → verify → promote` in the foreground, `settle → retire` of the replaced version as an obligation of its
 * own. Every step is journaled before its effect, and `resume` goes on with whatever an earlier process left.
 */
export class RotationEngine {
  /** What happens, as it happens; nothing is replayed. Completes when the engine stops. */
  readonly events$: Observable<RotationEvent>;

  readonly #context: EngineContext;
  readonly #retirement: Retirement;
  readonly #stopping = new AbortController();
  readonly #running = new Map<string, Promise<RotationResult>>();
  readonly #retrying = new Map<string, Promise<void>>();

  constructor(context: Omit<EngineContext, 'events' | 'signal' | 'turns'>) {
    const events = new Subject<RotationEvent>();
    this.events$ = events.asObservable();
    this.#context = { ...context, events, signal: this.#stopping.signal, turns: new TargetTurns() };
    this.#retirement = new Retirement(this.#context);
  }

  /**
   * Rotates a secret, or goes on with the rotation that an earlier attempt left unfinished. Calls for a secret that is rotating already join
   * that rotation.
   * @throws RotationPolicyError when the secret has no rotation policy
   * @throws RotatorNotFoundError
   * @throws RotationFailedError when a step threw
   */
  rotate(secretName: string, reason: RotationReason = 'requested'): Promise<RotationResult> {
    const running = this.#running.get(secretName);
    if (running !== undefined) return running;
    const forget = (): void => {
      if (this.#running.get(secretName) === rotation) this.#running.delete(secretName);
    };
    const rotation = this.#rotate(secretName, reason, forget).finally(forget);
    this.#running.set(secretName, rotation);
    return rotation;
  }

  /** Resolves when no version of the secret is left to be retired, or the engine stops. */
  async retired(secretName: string): Promise<void> {
    await this.#untilRetired(secretName, (state) => state.obligations.length === 0);
  }

  status(secretName: string): Promise<RotationState> {
    return this.#context.journal.read(secretName);
  }

  /** Goes on with everything an earlier process left: rotations and retirements. Resolves once it is all under way. */
  async resume(): Promise<void> {
    const { journal } = this.#context;
    for (const secretName of await journal.unfinished()) {
      this.#resumeOne(secretName).catch((error: unknown) => this.#retryLater(secretName, error));
    }
  }

  /** Stops after the steps in progress, which see their signal aborted; what is unfinished goes on at the next `resume`. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    const idle = Promise.allSettled([...this.#running.values(), ...this.#retrying.values(), this.#retirement.idle()]);
    const ended = new AbortController();
    await Promise.race([idle, pause(this.#context.clock, STOP_LIMIT_MS, ended.signal)]);
    ended.abort();
    this.#context.events.complete();
  }

  async #rotate(secretName: string, reason: RotationReason, ended: () => void): Promise<RotationResult> {
    const { versions, rotators, journal, ids, clock, events, signal } = this.#context;
    if (signal.aborted) throw new RotationStoppedError(secretName);
    const record = await versions.get(secretName);
    let state = await journal.read(secretName);
    this.#retirement.start(secretName, state);
    const rotatorName = state.active?.rotator ?? record.rotation?.rotator;
    if (rotatorName === undefined) {
      throw new RotationPolicyError(
        secretName,
        `Secret ${secretName} has no rotation policy: set one with updateRotationPolicy or in its definition.`,
      );
    }
    const rotator = rotators.get(rotatorName, secretName);
    if (state.active === undefined) {
      const rotationId = ids.next();
      const busy = await this.#freeIdentity(secretName, rotationId, rotatorName);
      if (signal.aborted) throw new RotationStoppedError(secretName);
      const startedAt = clock.now();
      state = await journal.change(secretName, (now) =>
        now.active === undefined
          ? { ...now, active: { rotationId, rotator: rotatorName, reason, step: 'create', startedAt, notes: {} } }
          : undefined,
      );
      events.next({ type: 'started', secretName, rotationId, at: startedAt, rotator: rotatorName, reason });
      return this.#run(new RotationRun(this.#context, secretName, rotator, rotationId, busy, ended), secretName);
    }
    const busy = await this.#busyIdentities(secretName, rotatorName);
    return this.#run(
      new RotationRun(this.#context, secretName, rotator, state.active.rotationId, busy, ended),
      secretName,
    );
  }

  async #run(run: RotationRun, secretName: string): Promise<RotationResult> {
    try {
      const { result, state } = await run.toPromotion();
      this.#retirement.start(secretName, state);
      return result;
    } catch (error) {
      // Undone already: the next attempt is the caller's or the schedule's. Anything else left the journal open.
      if (!isSecretsError(error, 'ROTATION_INTERRUPTED')) this.#retryLater(secretName, error);
      throw error;
    }
  }

  /** Waits until an identity is free, where the rotator's identities take turns. Returns those that are not. */
  async #freeIdentity(secretName: string, rotationId: string, rotatorName: string): Promise<ReadonlySet<string>> {
    const { rotators, clock, events, acknowledgements } = this.#context;
    const identities = rotators.get(rotatorName, secretName).identities?.();
    let busy = await this.#busyIdentities(secretName, rotatorName);
    if (identities === undefined || identities.some((identity) => !busy.has(identity))) return busy;
    const holders = (await this.status(secretName)).obligations.flatMap(({ versionId, promotion }) =>
      acknowledgements.holders(secretName, versionId, promotion),
    );
    events.next({ type: 'waiting', secretName, rotationId, at: clock.now(), holders: [...new Set(holders)] });
    await this.#untilRetired(secretName, async () => {
      busy = await this.#busyIdentities(secretName, rotatorName);
      return identities.some((identity) => !busy.has(identity));
    });
    return busy;
  }

  /** The identities of the current version and of all that are not retired. */
  async #busyIdentities(secretName: string, rotatorName: string): Promise<Set<string>> {
    const rotator = this.#context.rotators.get(rotatorName, secretName);
    if (rotator.identityOf === undefined) return new Set();
    const [record, state] = [await this.#context.versions.get(secretName), await this.status(secretName)];
    const current = versionAt(record, 'current');
    const versionIds = [
      ...(current === undefined ? [] : [current.id]),
      ...state.obligations.map(({ versionId }) => versionId),
    ];
    const versions = await Promise.all(
      versionIds.map((versionId) => loadVersion(this.#context, secretName, versionId)),
    );
    return new Set(versions.map(({ value }) => rotator.identityOf?.(value) ?? ''));
  }

  async #untilRetired(secretName: string, enough: (state: RotationState) => boolean | Promise<boolean>): Promise<void> {
    const retirements = (wake: () => void): Cancel => this.#retirement.onEnded((name) => name === secretName && wake());
    await waitUntil(async () => enough(await this.status(secretName)), [retirements], this.#context.signal);
  }

  async #resumeOne(secretName: string): Promise<void> {
    const state = await this.status(secretName);
    this.#retirement.start(secretName, state);
    if (state.active !== undefined) await this.rotate(secretName, state.active.reason);
  }

  /** Tries an unfinished rotation again, with growing pauses, until it is promoted or undone. */
  #retryLater(secretName: string, reason: unknown): void {
    const { clock, randomness, signal, events } = this.#context;
    if (isUndone(reason) || this.#retrying.has(secretName) || signal.aborted) return;
    const retry = async (): Promise<void> => {
      let error = reason;
      for (let attempt = 1; !isUndone(error); attempt += 1) {
        const delay = retryDelay(attempt, randomness);
        const message = error instanceof Error ? error.message : 'unknown error';
        const at = clock.now();
        const failed = error instanceof RotationFailedError ? error : undefined;
        const [rotationId, step] = failed === undefined ? ['', undefined] : [failed.rotationId, 'undo' as const];
        events.next({ type: 'failed', secretName, rotationId, at, step, message, retryAt: at + delay });
        await pause(clock, delay, signal);
        if (signal.aborted) return;
        try {
          await this.#resumeOne(secretName);
          return;
        } catch (again) {
          error = again;
        }
      }
    };
    this.#retrying.set(
      secretName,
      retry().finally(() => this.#retrying.delete(secretName)),
    );
  }
}

function isUndone(error: unknown): boolean {
  return error instanceof RotationFailedError && error.undone;
}
