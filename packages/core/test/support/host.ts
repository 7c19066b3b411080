import {
  type Cancel,
  type Clock,
  type StoreCommit,
  type StoreDriver,
  type StoreHint,
  StoreUnavailableError,
} from '@nestjs-secrets/core';
import type { SimulatedClock } from '@nestjs-secrets/testing';

export interface HostOptions {
  /** How far its wall clock is ahead of the world's, in milliseconds; 0 by default. */
  readonly aheadMs?: number;
  /** How fast its clocks run against the world's; 1 by default. */
  readonly pace?: number;
  /** Whether its monotonic clock stands still while it is frozen, as that of a suspended machine may. */
  readonly sleeps?: boolean;
}

/** Where one process of a fleet runs: its clock and its way to the store that all share, both of which a test can disturb. */
export class Host {
  readonly clock: Clock;
  readonly store: StoreDriver;
  /** While true, the store cannot be reached. */
  isCutOff = false;
  /** How many of its waits keep its process alive. */
  holds = 0;
  /** So many of the next commits happen, and nobody here hears of it. */
  answersToLose = 0;
  /** Sees each commit before it reaches the store. */
  beforeCommit: (commit: StoreCommit) => void | Promise<void> = () => undefined;
  /** Sees that something is asked of the store, whether or not it gets there. */
  onRequest: () => void = () => undefined;
  #frozenAt: number | undefined;
  #slept = 0;
  #isGone = false;
  readonly #waiting: (() => void)[] = [];

  constructor(
    private readonly world: SimulatedClock,
    shared: StoreDriver,
    { aheadMs = 0, pace = 1, sleeps = false }: HostOptions = {},
  ) {
    const begun = world.now();
    this.clock = {
      now: () => aheadMs + begun + (world.now() - begun) * pace,
      monotonic: () => (world.now() - begun - (sleeps ? this.#slept : 0)) * pace,
      keepAlive: (): Cancel => {
        this.holds += 1;
        return () => void (this.holds -= 1);
      },
      after: (delayMs, task): Cancel => {
        let isOver = false;
        const run = (): void => {
          if (isOver) return;
          isOver = true;
          task();
        };
        const cancel = world.after(delayMs / pace, () => this.#whenAwake(run));
        return () => {
          isOver = true;
          cancel();
        };
      },
    };
    this.store = this.#storeOver(shared);
  }

  /** As by SIGSTOP: no timer runs, no hint and no answer arrives until `thaw`. */
  freeze(): void {
    this.#frozenAt = this.world.now();
  }

  /** As by SIGCONT. What came meanwhile arrives in turns of its own, after whatever the caller does in this one. */
  thaw(): void {
    this.#slept += this.world.now() - (this.#frozenAt ?? this.world.now());
    this.#frozenAt = undefined;
    for (const run of this.#waiting.splice(0)) setImmediate(() => this.#whenAwake(run));
  }

  /** As by kill -9. */
  kill(): void {
    this.#isGone = true;
  }

  #whenAwake(run: () => void): void {
    if (this.#isGone) return;
    if (this.#frozenAt === undefined) run();
    else this.#waiting.push(run);
  }

  #awake(): Promise<void> {
    return new Promise((resolve) => this.#whenAwake(resolve));
  }

  #storeOver(shared: StoreDriver): StoreDriver {
    const reached = async <R>(request: () => Promise<R>): Promise<R> => {
      await this.#awake();
      this.onRequest();
      if (this.isCutOff) throw new StoreUnavailableError(shared.name, 'cannot be reached.');
      const answer = await request().then(
        (value) => () => value,
        (error: unknown) => () => {
          throw error;
        },
      );
      await this.#awake();
      return answer();
    };
    return {
      name: shared.name,
      // Opened by the test, and closed by nobody, since others go on with it.
      open: async () => undefined,
      close: async () => undefined,
      get: (key) => reached(() => shared.get(key)),
      list: (options) => reached(() => shared.list(options)),
      revision: () => reached(() => shared.revision()),
      commit: (commit) =>
        reached(async () => {
          await this.beforeCommit(commit);
          const revision = await shared.commit(commit);
          if (this.answersToLose === 0) return revision;
          this.answersToLose -= 1;
          throw new StoreUnavailableError(shared.name, 'did not answer.');
        }),
      watch: (onHint: (hint: StoreHint) => void, prefixes) =>
        shared.watch((hint) => {
          if (!this.isCutOff) this.#whenAwake(() => onHint(hint));
        }, prefixes),
    };
  }
}
