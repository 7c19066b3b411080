import type { Cancel, Clock } from '@nestjs-secrets/core';

interface Task {
  readonly at: number;
  readonly run: () => void;
}

/** A clock that stands still until it is told to move, for tests of anything that waits. */
export class SimulatedClock implements Clock {
  #now: number;
  readonly #tasks = new Set<Task>();
  #holds = 0;

  /** @param start milliseconds since the epoch; 2030-01-01T00:00:00Z by default */
  constructor(start = Date.UTC(2030, 0, 1)) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): Cancel {
    const task = { at: this.#now + Math.max(0, delayMs), run };
    this.#tasks.add(task);
    return () => this.#tasks.delete(task);
  }

  /** Counts; the real process may end whenever it likes. */
  keepAlive(): Cancel {
    let isHeld = true;
    this.#holds += 1;
    return () => {
      this.#holds -= Number(isHeld);
      isHeld = false;
    };
  }

  /** How many waits would keep the process alive. */
  get holds(): number {
    return this.#holds;
  }

  /** How many timers are set. */
  get pending(): number {
    return this.#tasks.size;
  }

  /** Moves time on, running what falls due in order, and lets everything that this started come to rest in between. */
  async advance(byMs: number): Promise<void> {
    const until = this.#now + byMs;
    await rest();
    for (let next = this.#next(until); next !== undefined; next = this.#next(until)) {
      this.#tasks.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
      await rest();
    }
    this.#now = until;
  }

  #next(until: number): Task | undefined {
    let earliest: Task | undefined;
    for (const task of this.#tasks)
      if (task.at <= until && (earliest === undefined || task.at < earliest.at)) earliest = task;
    return earliest;
  }
}

/** Some turns of the event loop: enough for chains of promises that wait for nothing outside the process. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
