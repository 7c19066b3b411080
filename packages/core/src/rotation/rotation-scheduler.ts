import type { Cancel, Clock } from '../foundation/clock.js';
import { nextRotationAt } from '../versions/rotation-policy.js';
import type { VersionStore } from '../versions/version-store.js';
import type { RotationEngine } from './rotation-engine.js';

/** Where the scheduler sets its timers; `@nestjs/schedule`'s registry serves as one, so that they can be seen there. */
export interface ScheduleTimers {
  /** Runs `task` once after `delayMs`, under a name that is unique among the timers set. The function returned takes it back. */
  set(name: string, delayMs: number, task: () => void): Cancel;
}

// Clocks may be set and machines may sleep, so a far-off rotation is looked at again at least this often.
const LONGEST_WAIT_MS = 3_600_000;
const RETRY_AFTER_MS = 5_000;

/**
 * Starts rotations when they are due. Times are computed from the policy and the start of the last rotation, both in the store, so a
 * restart loses nothing: what was missed meanwhile is caught up by one rotation.
 */
export class RotationScheduler {
  readonly #timers = new Map<string, Cancel>();
  #unwatch: (() => void) | undefined;
  #stopped = false;

  constructor(
    private readonly engine: RotationEngine,
    private readonly versions: VersionStore,
    private readonly clock: Clock,
    private readonly timers: ScheduleTimers,
  ) {}

  /** Takes every scheduled secret of the store on, and follows changes of their policies. */
  async start(): Promise<void> {
    this.#unwatch = this.versions.watch((name) => {
      if (name !== undefined) this.#plan(name);
    });
    for (const name of await this.versions.scheduled()) this.#plan(name);
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch?.();
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  /** When the secret rotates next by schedule; undefined when it does not. */
  async nextRunAt(secretName: string): Promise<number | undefined> {
    const [record, state] = [await this.versions.get(secretName), await this.engine.status(secretName)];
    if (record.rotation === undefined) return undefined;
    return nextRotationAt(record.rotation, state.lastRotation?.startedAt ?? record.createdAt);
  }

  #plan(name: string): void {
    if (this.#stopped) return;
    this.nextRunAt(name)
      .then((at) => this.#arm(name, at))
      .catch(() => this.#arm(name, this.clock.now() + RETRY_AFTER_MS));
  }

  #arm(name: string, at: number | undefined): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
    if (this.#stopped || at === undefined) return;
    const delay = Math.max(0, at - this.clock.now());
    const task = (): void => {
      this.#timers.delete(name);
      if (delay > LONGEST_WAIT_MS) this.#plan(name);
      else this.#rotate(name);
    };
    this.#timers.set(name, this.timers.set(`nestjs-secrets:${name}`, Math.min(delay, LONGEST_WAIT_MS), task));
  }

  #rotate(name: string): void {
    this.nextRunAt(name)
      .then(async (at) => {
        if (at !== undefined && at <= this.clock.now()) await this.engine.rotate(name, 'schedule');
        this.#plan(name);
      })
      // What went wrong has been told as an event; the next run is planned from the failed one, or soon when not even that is known.
      .catch(() => this.#arm(name, this.clock.now() + RETRY_AFTER_MS));
  }
}
