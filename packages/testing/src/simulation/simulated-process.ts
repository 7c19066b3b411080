import type { Cancel, Clock } from '@nestjs-secrets/core';
import type { EventQueue } from './event-queue.js';

/** How the clocks of one process differ from the world's. */
export interface ClockFault {
  /** What its wall clock is ahead by, in milliseconds. */
  readonly skewMs: number;
  /** How many of its milliseconds pass in one of the world's. */
  readonly rate: number;
}

/** When worlds begin. */
const EPOCH = Date.UTC(2030, 0, 1);

/**
 * One operating system process. Everything that reaches it from outside (a timer, an answer, a hint) comes through `deliver`: after `kill`
 * nothing does, and while it is stopped (SIGSTOP) all of it is kept back, to come at once when it goes on.
 */
export class SimulatedProcess {
  readonly clock: Clock;
  #state: 'running' | 'stopped' | 'dead' = 'running';
  #kept: (() => void)[] = [];
  readonly #ends = new Set<() => void>();
  readonly #startedAt: number;

  constructor(
    readonly name: string,
    private readonly queue: EventQueue,
    private readonly fault: ClockFault,
    /** How many times as long as for others the store takes to answer it. */
    readonly distance: number,
  ) {
    this.#startedAt = queue.now;
    this.clock = {
      now: () => Math.floor(EPOCH + this.#startedAt + fault.skewMs + this.#uptime()),
      monotonic: () => this.#uptime(),
      after: (delayMs, task) => this.#after(delayMs, task),
    };
  }

  get isAlive(): boolean {
    return this.#state !== 'dead';
  }

  get isRunning(): boolean {
    return this.#state === 'running';
  }

  deliver(run: () => void): void {
    if (this.#state === 'running') run();
    else if (this.#state === 'stopped') this.#kept.push(run);
  }

  /** SIGSTOP. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
  }

  /** SIGCONT: what was kept back comes now, each as an event of its own. */
  goOn(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'running';
    const kept = this.#kept;
    this.#kept = [];
    for (const run of kept) this.queue.after(0, 'kept', () => this.deliver(run));
  }

  /** kill -9. */
  kill(): void {
    if (this.#state === 'dead') return;
    this.#state = 'dead';
    this.#kept = [];
    for (const end of this.#ends) end();
  }

  /** Calls `end` when the process dies, as the kernel closes sockets. */
  onDeath(end: () => void): void {
    this.#ends.add(end);
  }

  #uptime(): number {
    return (this.queue.now - this.#startedAt) * this.fault.rate;
  }

  #after(delayMs: number, task: () => void): Cancel {
    let wanted = true;
    const fire = (): void => {
      if (wanted) task();
    };
    const cancel = this.queue.after(Math.max(0, delayMs) / this.fault.rate, this.name, () => this.deliver(fire));
    return () => {
      wanted = false;
      cancel();
    };
  }
}
