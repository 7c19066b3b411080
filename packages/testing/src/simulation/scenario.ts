import type { FaultRates } from './fault-rates.js';
import { NO_FAULTS } from './fault-rates.js';
import type { ModelRotatorOptions } from './model-rotators.js';
import type { SeededRandom } from './seeded-random.js';
import type { ClockFault } from './simulated-process.js';

/** Something that is done to the world at a time of its own, whatever happens there. */
export type Deed =
  | { readonly type: 'rotate'; readonly atMs: number; readonly emergencyMs: number | undefined }
  /** One is killed, after which another starts; or another starts beside those there are. */
  | { readonly type: 'kill' | 'join'; readonly atMs: number }
  | { readonly type: 'stop'; readonly atMs: number; readonly forMs: number }
  | { readonly type: 'cut off'; readonly atMs: number; readonly forMs: number }
  | { readonly type: 'store down' | 'target down'; readonly atMs: number; readonly forMs: number };

/** Everything about one world that does not follow from what happens in it. */
export interface Scenario {
  readonly processes: number;
  readonly rotator: ModelRotatorOptions;
  readonly leaseMs: number;
  /** The version that is current at first: put by hand, or made by the rotator at start. */
  readonly initial: 'stored' | 'rotator';
  readonly everyMs: number | undefined;
  readonly refreshIntervalMs: number;
  /** How long trouble lasts; then nothing fails any more, and everything must come to rest. */
  readonly troubleMs: number;
  readonly deeds: readonly Deed[];
  readonly storeFaults: FaultRates;
  readonly targetFaults: FaultRates;
  /** How late a statement or a commit can arrive. */
  readonly slowestStatementMs: number;
  readonly slowestCommitMs: number;
  readonly storeMs: number;
  readonly targetMs: number;
  readonly poolSize: number;
  /** Between two pieces of work of a process. */
  readonly workEveryMs: number;
  readonly thinkMs: number;
  /** Of each process, in the order they start, beginning anew after the last. */
  readonly clocks: readonly ClockFault[];
  /** How many times as long as for others the store takes to answer each process. */
  readonly distances: readonly number[];
  /** The probability that a step of a rotator throws. */
  readonly stepFails: number;
  /** The probability that a process is killed, or stopped, right after a commit to the journal or a statement of its rotator. */
  readonly killedInStep: number;
  readonly stoppedInStep: number;
  /** The probability that a new version loses what it may do right after its promotion. */
  readonly spoiled: number;
  /** Pauses end after at most so long. */
  readonly longestStopMs: number;
}

/**
 * How far the fleet's assumptions hold. `within`: rates of clocks differ by less than 25 %, and a statement takes effect within 0.4 of a
 * lease after `assertHolder`. `beyond`: neither does, and only what the store decides alone is promised.
 */
export type Assumptions = 'within' | 'beyond';

/** Draws a scenario. Each kind of trouble is left out of many of them, so that what remains has time to show. */
export function drawScenario(random: SeededRandom, assumptions: Assumptions): Scenario {
  const leaseMs = random.pick([4_000, 10_000]);
  const troubleMs = leaseMs * random.between(1, 3.5);
  const processes = random.pick([1, 2, 2, 2, 3, 3, 4]);
  const strategy = random.pick(['alternating-users', 'single-user', 'dual-password'] as const);
  const some = (most: number): number => (random.chance(0.5) ? 0 : most * random.between(0, 1) ** 2);
  const noisy = (): FaultRates => {
    if (random.chance(0.3)) return NO_FAULTS;
    return {
      slow: some(0.3),
      lost: some(0.06),
      answerLost: some(0.06),
      hintLost: some(0.5),
      hintDoubled: some(0.3),
    };
  };
  const beyond = assumptions === 'beyond';
  const clock = (): ClockFault => ({
    skewMs: random.chance(0.5) ? 0 : random.between(-60_000, 60_000),
    rate: random.chance(0.4) ? 1 : beyond ? random.between(0.5, 2) : random.between(0.9, 1.12),
  });
  return {
    processes,
    rotator: { strategy, roles: random.pick([2, 2, 3]) },
    leaseMs,
    initial: random.chance(0.85) ? 'stored' : 'rotator',
    everyMs: random.chance(0.3) ? Math.max(500, Math.floor(random.between(0.25, 1.5) * leaseMs)) : undefined,
    refreshIntervalMs: leaseMs * random.pick([1, 4]),
    troubleMs,
    deeds: drawDeeds(random, leaseMs, troubleMs),
    storeFaults: noisy(),
    targetFaults: noisy(),
    slowestStatementMs: leaseMs * (beyond ? 4 : 0.4),
    slowestCommitMs: leaseMs * random.pick([0.05, 0.2, 2]),
    storeMs: random.pick([2, 10, 40]),
    targetMs: random.pick([2, 10, 40]),
    poolSize: random.pick([1, 2, 3]),
    workEveryMs: leaseMs * random.between(0.2, 1),
    thinkMs: leaseMs * random.pick([0.005, 0.05, 0.5]),
    clocks: Array.from({ length: 12 }, clock),
    distances: Array.from({ length: 12 }, () => (random.chance(0.1) ? 10 : 1)),
    stepFails: some(0.2),
    killedInStep: some(0.12),
    stoppedInStep: some(0.1),
    spoiled: random.chance(0.15) ? 0.5 : 0,
    longestStopMs: leaseMs * random.pick([0.5, 1.2, 3]),
  };
}

function drawDeeds(random: SeededRandom, leaseMs: number, troubleMs: number): Deed[] {
  const deeds: Deed[] = [];
  const atMs = (): number => random.between(0, troubleMs);
  const upTo = (most: number): number => random.below(most + 1);
  const forMs = (): number => leaseMs * random.pick([0.1, 0.5, 1, 2]) * random.between(0.5, 1.5);
  for (let count = 1 + upTo(3); count > 0; count -= 1) {
    const emergencyMs = random.chance(0.15) ? Math.floor(leaseMs * random.between(0.1, 1)) : undefined;
    deeds.push({ type: 'rotate', atMs: atMs(), emergencyMs });
  }
  for (let count = random.chance(0.4) ? upTo(2) : 0; count > 0; count -= 1)
    deeds.push({ type: random.pick(['kill', 'kill', 'join'] as const), atMs: atMs() });
  for (let count = random.chance(0.4) ? upTo(2) : 0; count > 0; count -= 1)
    deeds.push({ type: 'stop', atMs: atMs(), forMs: forMs() });
  if (random.chance(0.25)) deeds.push({ type: 'cut off', atMs: atMs(), forMs: forMs() });
  if (random.chance(0.2)) deeds.push({ type: 'store down', atMs: atMs(), forMs: forMs() });
  if (random.chance(0.15)) deeds.push({ type: 'target down', atMs: atMs(), forMs: forMs() });
  return deeds;
}
