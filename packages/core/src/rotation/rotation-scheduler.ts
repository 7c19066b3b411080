import type { Cancel, Clock } from '../foundation/clock.js';
import type { Randomness } from '../foundation/randomness.js';
import { isSuspended, nextRotationAt, type RotationPolicy } from '../versions/rotation-policy.js';
import type { SecretRecord } from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';
import { DueTimes } from './due-times.js';
import type { RotationEngine } from './rotation-engine.js';
import type { RotationState } from './rotation-state.js';

/** Where the scheduler sets its timers; `@nestjs/schedule`'s registry serves as one, so that they can be seen there. */
export interface ScheduleTimers {
  /** Runs `task` once after `delayMs`, under a name that is unique among the timers set. The function returned takes it back. */
  set(name: string, delayMs: number, task: () => void): Cancel;
}

export interface RotationSchedulerParts {
  readonly engine: RotationEngine;
  readonly versions: VersionStore;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly timers: ScheduleTimers;
  /** Told when a secret has failed so often that its schedule stands still. */
  readonly onSuspended: (secretName: string, failures: number) => void;
}

const TIMER = 'nestjs-secrets:rotations';
// Clocks may be set and machines may sleep, so a far-off rotation is looked at again at least this often.
const LONGEST_WAIT_MS = 3_600_000;
const RETRY_AFTER_MS = 5_000;
/** When another instance has the secret, its own schedule goes on there; this is how long until a look whether it still does. */
const ELSEWHERE_MS = 5_000;
/** Reads under way at one time while many secrets are planned. */
const PLANNED_AT_ONCE = 16;

/**
 * Starts rotations when they are due. Times are computed from the policy and the rotations so far, both in the store, so a restart loses nothing:
 * what was missed meanwhile is caught up by one rotation. Every instance has the same times; the engine sees to it that one of them acts.
 *
 * One timer serves all secrets, however many.
 */
export class RotationScheduler {
  readonly #due = new DueTimes();
  readonly #suspended = new Set<string>();
  readonly #planning = new Map<string, Promise<void>>();
  readonly #again = new Set<string>();
  #timer: { readonly at: number; readonly cancel: Cancel } | undefined;
  #unwatch: (() => void) | undefined;
  #stopped = false;

  constructor(private readonly parts: RotationSchedulerParts) {}

  /** Takes every scheduled secret of the store on, and follows changes of their policies. */
  async start(): Promise<void> {
    this.#unwatch = this.parts.versions.watch((name) => {
      if (name !== undefined) void this.#plan(name);
    });
    const names = await this.parts.versions.scheduled();
    const take = async (): Promise<void> => {
      for (let name = names.pop(); name !== undefined; name = names.pop()) await this.#plan(name);
    };
    await Promise.all(Array.from({ length: PLANNED_AT_ONCE }, take));
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch?.();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#due.clear();
  }

  /** When the secret rotates next by schedule; undefined when it does not, as when it is paused or has failed too often. */
  async nextRunAt(secretName: string): Promise<number | undefined> {
    const { versions, engine } = this.parts;
    return dueAt(await versions.get(secretName), await engine.status(secretName));
  }

  /** Plans a secret anew: once at a time, and again when that was asked for meanwhile. */
  #plan(name: string): Promise<void> {
    const planning = this.#planning.get(name);
    if (planning !== undefined) {
      this.#again.add(name);
      return planning;
    }
    const planned = this.#planOnce(name).finally(() => {
      this.#planning.delete(name);
      if (this.#again.delete(name)) void this.#plan(name);
    });
    this.#planning.set(name, planned);
    return planned;
  }

  async #planOnce(name: string): Promise<void> {
    if (this.#stopped) return;
    const { versions, engine, clock, onSuspended } = this.parts;
    try {
      const found = await versions.find(name);
      const policy = found?.record.rotation;
      if (found === undefined || policy?.schedule === undefined) {
        this.#set(name, undefined);
        return;
      }
      const state = await engine.status(name);
      this.#set(name, dueAt(found.record, state));
      if (!isStandingStill(policy, state)) this.#suspended.delete(name);
      else if (!this.#suspended.has(name)) {
        this.#suspended.add(name);
        onSuspended(name, state.failures);
      }
    } catch {
      this.#set(name, clock.now() + this.#jittered(RETRY_AFTER_MS));
    }
  }

  #set(name: string, at: number | undefined): void {
    if (this.#stopped) return;
    this.#due.set(name, at);
    this.#arm();
  }

  #arm(): void {
    const at = this.#due.earliest();
    if (this.#stopped || at === this.#timer?.at) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (at === undefined) return;
    const delay = Math.min(LONGEST_WAIT_MS, Math.max(0, at - this.parts.clock.now()));
    this.#timer = { at, cancel: this.parts.timers.set(TIMER, delay, () => this.#run()) };
  }

  #run(): void {
    this.#timer = undefined;
    const now = this.parts.clock.now();
    for (let name = this.#due.take(now); name !== undefined; name = this.#due.take(now)) void this.#rotate(name);
    this.#arm();
  }

  async #rotate(name: string): Promise<void> {
    const { engine, versions, clock } = this.parts;
    try {
      const state = await engine.status(name);
      const at = dueAt(await versions.get(name), state);
      if (at !== undefined && at <= clock.now()) {
        const result = await engine.rotate(name, { reason: 'schedule', after: state.lastRotation?.rotationId });
        if (result === undefined) {
          this.#set(name, clock.now() + this.#jittered(ELSEWHERE_MS));
          return;
        }
      }
    } catch {
      // What went wrong has been told as an event; the next run is planned from the failed one, or soon when not even that is known.
      if (!(await this.#hasFailed(name))) {
        this.#set(name, clock.now() + this.#jittered(RETRY_AFTER_MS));
        return;
      }
    }
    await this.#plan(name);
  }

  /** Whether the journal knows of the failure, so that the next run can be planned from it. */
  async #hasFailed(name: string): Promise<boolean> {
    try {
      const state = await this.parts.engine.status(name);
      return state.active === undefined && state.failures > 0;
    } catch {
      return false;
    }
  }

  #jittered(delayMs: number): number {
    return delayMs / 2 + this.parts.randomness.below(delayMs);
  }
}

function dueAt(record: SecretRecord, { lastRotation, failures }: RotationState): number | undefined {
  if (record.rotation === undefined || record.deletion !== undefined) return undefined;
  return nextRotationAt(record.name, record.rotation, {
    createdAt: record.createdAt,
    lastStartedAt: lastRotation?.startedAt,
    lastEndedAt: lastRotation?.endedAt,
    failures,
  });
}

function isStandingStill(policy: RotationPolicy, { failures }: RotationState): boolean {
  return policy.enabled !== false && isSuspended(policy, failures);
}
