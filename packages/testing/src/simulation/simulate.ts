import type { Mutation } from './mutations.js';
import type { Assumptions } from './scenario.js';
import { runWorld, type WorldResult } from './world.js';

export interface SimulateOptions {
  /** How many worlds. */
  readonly schedules: number;
  /** The seed of the first; each further world has the next. 1 by default. */
  readonly seed?: number;
  readonly assumptions?: Assumptions;
  readonly mutation?: Mutation;
  /** Called now and then. */
  readonly onProgress?: (done: number) => void;
  /** Stop at the first violation. */
  readonly stopAtFirst?: boolean;
}

export interface SimulationReport {
  readonly schedules: number;
  readonly violations: number;
  /** The seeds of the worlds in which an invariant was violated. */
  readonly seeds: readonly number[];
  readonly events: number;
  readonly failures: readonly WorldResult[];
}

const BETWEEN_PROGRESS = 500;

/** Runs one world after the other. */
export async function simulate(options: SimulateOptions): Promise<SimulationReport> {
  const { schedules, seed = 1, assumptions, mutation, onProgress, stopAtFirst = false } = options;
  const failures: WorldResult[] = [];
  let events = 0;
  let done = 0;
  // Worlds are full of errors nobody prints: their stack traces would take as long as the rest of the world.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    while (done < schedules && !(stopAtFirst && failures.length > 0)) {
      const result = await runWorld(seed + done, { assumptions, mutation });
      done += 1;
      events += result.events;
      if (result.violations.length > 0) failures.push(result);
      if (done % BETWEEN_PROGRESS !== 0) continue;
      onProgress?.(done);
      // A world leaves no room for anything else; this lets the process answer signals and print.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  const violations = failures.reduce((count, failure) => count + failure.violations.length, 0);
  return { schedules: done, violations, seeds: failures.map((failure) => failure.seed), events, failures };
}
