import { setMaxListeners } from 'node:events';
import { Observable, Subject } from 'rxjs';
import { pause } from '../foundation/clock.js';
import { isSecretsError, RotationFailedError, RotationStoppedError } from '../foundation/errors.js';
import { Adoption } from './adoption.js';
import { type EngineContext, type EngineParts, messageOf, retryDelay } from './engine-context.js';
import { Leases } from './leases.js';
import { Retirement } from './retirement.js';
import { Rollback } from './rollback.js';
import { isReplacing, type RotationEvent, type RotationReason } from './rotation-events.js';
import type { RotationRequest } from './rotation-request.js';
import type { RotationResult } from './rotation-result.js';
import { RotationStart } from './rotation-start.js';
import type { RetireObligation, RotationState } from './rotation-state.js';
import { Tenure, Tenures } from './rotation-tenure.js';
import { OPEN_STEP_DOOR } from './step-door.js';
import { TargetTurns } from './target-turns.js';
import { waitUntil } from './wait-until.js';

const STOP_LIMIT_MS = 10_000;
const NOTHING_LEFT_OPEN = [
  'ROTATION_INTERRUPTED',
  'ROTATION_STOPPED',
  'ROTATION_POLICY_INVALID',
  'ROTATOR_NOT_FOUND',
  'REHEARSAL_UNSUPPORTED',
  'SECRET_NOT_FOUND',
  'SECRET_DELETED',
];

/**
 * Rotates secrets: `create → apply → verify → promote` in the foreground, `settle → retire` of the replaced version as an obligation of its
 * own. Every step is journaled before its effect. Of all instances that share a store one at a time rotates a secret; what one leaves unfinished
 * when it dies, another goes on with.
 */
export class RotationEngine {
  /** What happens in rotations of this instance, as it happens; nothing is replayed. Completes when the engine stops. */
  readonly events$: Observable<RotationEvent>;

  /** The credentials that belong to one instance. */
  readonly leases: Leases;

  readonly #context: EngineContext;
  readonly #retirement: Retirement;
  readonly #rollback: Rollback;
  readonly #start: RotationStart;
  readonly #adoption: Adoption;
  readonly #stopping = new AbortController();
  readonly #running = new Map<
    string,
    { readonly reason: RotationReason; rotation: Promise<RotationResult | undefined> }
  >();
  readonly #retrying = new Map<string, Promise<void>>();

  constructor(parts: EngineParts) {
    // Everything that waits listens, so with many secrets many do.
    setMaxListeners(0, this.#stopping.signal);
    const events = new Subject<RotationEvent>();
    this.events$ = events.asObservable();
    const tenures = new Tenures(parts.journal, parts.instance, parts.instances);
    const { door = OPEN_STEP_DOOR } = parts;
    this.#context = {
      ...parts,
      door,
      tenures,
      events,
      signal: this.#stopping.signal,
      turns: new TargetTurns(parts.clock),
    };
    this.#rollback = new Rollback(this.#context);
    this.#retirement = new Retirement(this.#context, (tenure, obligation) => this.#putBack(tenure, obligation));
    this.#start = new RotationStart(this.#context, this.#retirement, this.#rollback);
    this.leases = new Leases(this.#context, (name, request) => this.rotate(name, request));
    this.#adoption = new Adoption(this.#context, {
      isBusy: (name) => this.#running.has(name) || this.#retrying.has(name),
      goOn: (name) => this.#goOn(name),
      reap: () => this.leases.reap(),
    });
  }

  /**
   * Rotates a secret, or goes on with the rotation that an earlier attempt left unfinished. Calls for a secret that is rotating already join
   * that rotation, in whichever instance it takes place.
   *
   * Resolves with undefined only for a rotation by schedule that is not due here: another instance has the secret, or has rotated it since.
   * @throws RotationPolicyError when the secret has no rotation policy
   * @throws RotatorNotFoundError
   * @throws RotationFailedError when a step threw
   */
  rotate(secretName: string, request: RotationRequest): Promise<RotationResult | undefined> {
    const running = this.#running.get(secretName);
    if (running !== undefined && isReplacing(running.reason) && isReplacing(request.reason)) {
      const hurried =
        request.deadline === undefined ? Promise.resolve() : this.#start.hurry(secretName, request.deadline);
      const joined = hurried.then(() => running.rotation);
      // What was joined may turn out to have nothing to do here, which is no answer to somebody who asks for a rotation.
      const isAsked = request.reason !== 'schedule' && request.goesOnWith === undefined;
      return joined.then((result) => result ?? (isAsked ? this.rotate(secretName, request) : undefined));
    }
    const forget = (): void => {
      if (this.#running.get(secretName) === entry) this.#running.delete(secretName);
    };
    const start = (): Promise<RotationResult | undefined> => this.#rotate(secretName, request, forget).finally(forget);
    const rotation = running === undefined ? start() : running.rotation.then(start, start);
    const entry = { reason: request.reason, rotation };
    this.#running.set(secretName, entry);
    return rotation;
  }

  /** Resolves when no version of the secret is left to be retired, in whichever instance that takes place, or the engine stops. */
  async retired(secretName: string): Promise<void> {
    const { journal, clock, signal, instances } = this.#context;
    await waitUntil(
      async () => (await journal.read(secretName)).obligations.length === 0,
      [
        (wake) => this.#retirement.onChange((name) => name === secretName && wake()),
        (wake) => journal.watch((name) => (name === undefined || name === secretName) && wake()),
        (wake) => clock.after(instances.lookEveryMs, wake),
      ],
      signal,
      clock,
    );
  }

  status(secretName: string): Promise<RotationState> {
    return this.#context.journal.read(secretName);
  }

  /** Begins to count failed rotations anew. */
  async forgiveFailures(secretName: string): Promise<void> {
    await this.#context.journal.annotate(secretName, (state) =>
      state.failures === 0 ? undefined : { ...state, failures: 0 },
    );
  }

  /** Goes on with everything that was left unfinished, rotations and retirements, now and whenever an instance dies. Resolves once it is all under way. */
  async resume(): Promise<void> {
    await this.#adoption.start();
  }

  /** Says that the schedule of a secret stands still. */
  tellSuspended(secretName: string, failures: number): void {
    const at = this.#context.clock.now();
    this.#context.events.next({ type: 'suspended', secretName, rotationId: '', at, failures });
  }

  /** Stops after the steps in progress, which see their signal aborted; what is unfinished goes on elsewhere, or at the next `resume`. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    this.#adoption.stop();
    const tenures = this.#context.tenures.endAll();
    const running = [...this.#running.values()].map(({ rotation }) => rotation);
    const idle = Promise.allSettled([...running, ...this.#retrying.values(), this.#retirement.idle()]);
    const ended = new AbortController();
    await Promise.race([idle, pause(this.#context.clock, STOP_LIMIT_MS, ended.signal)]);
    ended.abort();
    await Promise.all(tenures.map((tenure) => tenure.abandon()));
    this.#context.events.complete();
  }

  async #rotate(secretName: string, request: RotationRequest, ended: () => void): Promise<RotationResult | undefined> {
    try {
      if (this.#stopping.signal.aborted) throw new RotationStoppedError(secretName);
      return await this.#start.rotate(secretName, request, ended);
    } catch (error) {
      // Undone already: the next attempt is the caller's or the schedule's. Anything else left the journal open.
      if (!isOver(error)) this.#retryLater(secretName, error);
      throw error;
    }
  }

  /** Takes on what is unfinished of a secret whose lease is free. */
  async #goOn(secretName: string): Promise<void> {
    const tenure = await this.#context.tenures.enter(secretName);
    if (!(tenure instanceof Tenure)) return;
    const state = await this.status(secretName);
    this.#retirement.start(tenure, state);
    const { active } = state;
    if (active !== undefined) await this.rotate(secretName, { reason: active.reason, goesOnWith: active.rotationId });
    else if (state.obligations.length === 0) await tenure.release();
  }

  async #putBack(tenure: Tenure, obligation: RetireObligation): Promise<boolean> {
    const { secretName } = tenure;
    // A rotation under way replaces the suspected version anyway; what is still refused then is reported of its successor.
    if (this.#running.has(secretName)) return false;
    const begun = await this.#rollback.beginIfFounded(tenure, obligation);
    if (begun === undefined) return false;
    this.rotate(secretName, { reason: 'rollback', goesOnWith: begun.active?.rotationId ?? '' }).catch(() => undefined);
    return true;
  }

  /** Tries an unfinished rotation again, with growing pauses, until it is promoted or undone. */
  #retryLater(secretName: string, reason: unknown): void {
    const { clock, randomness, signal, events } = this.#context;
    if (this.#retrying.has(secretName) || signal.aborted) return;
    const retry = async (): Promise<void> => {
      let error = reason;
      for (let attempt = 1; !isOver(error); attempt += 1) {
        const delay = retryDelay(attempt, randomness);
        const at = clock.now();
        const failed = error instanceof RotationFailedError ? error : undefined;
        const [rotationId, step] = failed === undefined ? ['', undefined] : [failed.rotationId, 'undo' as const];
        const message = messageOf(error);
        events.next({ type: 'failed', secretName, rotationId, at, step, message, retryAt: at + delay });
        await pause(clock, delay, signal);
        if (signal.aborted) return;
        try {
          await this.#goOn(secretName);
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

/** Whether there is nothing here to be tried again: it was taken back, is another instance's by now, or never began. */
function isOver(error: unknown): boolean {
  if (error instanceof RotationFailedError) return error.undone;
  return NOTHING_LEFT_OPEN.some((code) => isSecretsError(error, code));
}
