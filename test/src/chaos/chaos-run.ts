import { setTimeout as delay } from 'node:timers/promises';
import { CredentialWatch } from './credential-watch.js';
import { FAULTS, Faults } from './faults.js';
import { CREDENTIALS, Fleet } from './fleet.js';
import { moment } from './moment.js';
import { judgeQueries } from './query-verdict.js';
import { SeededDice } from './seeded-dice.js';
import { overlappingChanges } from './server-log.js';

export interface ChaosOptions {
  readonly seconds: number;
  readonly processes: number;
  readonly seed: number;
  /** The names of faults to choose from; all by default. */
  readonly faults?: readonly string[];
  readonly leaseMs?: number;
  /** A fault begins this often, in milliseconds. */
  readonly faultEveryMs?: readonly [least: number, most: number];
  readonly told?: (what: string) => void;
  /** Given what the processes and the store wrote down, for whoever looks into a violation. */
  readonly keepHistory?: (entries: readonly object[]) => Promise<void>;
}

/** What `npm run chaos` writes. Everything from `failedOnSurvivors` to `hung` must be 0. */
export interface ChaosReport {
  readonly seconds: number;
  readonly processes: number;
  readonly seed: number;
  readonly queries: number;
  readonly failedOnSurvivors: number;
  readonly concurrentRotators: number;
  readonly earlyRetirements: number;
  readonly livingOldCredentials: number;
  /** Acknowledged writes that the target does not have. */
  readonly lostWrites: number;
  /** Queries that had not ended long after the last fault. */
  readonly hung: number;
  /** Processes that ended although nobody killed them. */
  readonly endedByThemselves: number;
  /** Changes of the target by two processes at one time, by the target's own log. */
  readonly overlappingChanges: number;
  /** In flight while their process was stopped for longer than its lease. */
  readonly excused: number;
  readonly rotations: number;
  readonly retirements: number;
  readonly credentialsTried: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Leases taken from instances that were declared dead. */
  readonly takeovers: number;
  readonly longestWithoutRotationMs: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly violations: readonly string[];
}

const STOP_LOAD_WITHIN_MS = 20_000;
const SETTLE_WITHIN_MS = 120_000;
const TOLD_VIOLATIONS = 100;

/** Rotates every second under load while processes, store, network and target fail, and then counts what went wrong. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seconds, processes, seed, leaseMs = 2_000, faultEveryMs: [least, most] = [2_000, 4_000] } = options;
  const told = options.told ?? (() => undefined);
  const begunAt = moment();
  const tell = (what: string): void => told(`${((moment() - begunAt) / 1000).toFixed(1)} s: ${what}`);
  const fleet = await Fleet.start({ processes, leaseMs, twoServers: true, answerWithinMs: 700, every: '1s' });
  const { target } = fleet.servers;
  const watch = new CredentialWatch(fleet.manager, { ...target }, target.admin);
  const faults = new Faults(fleet, new SeededDice(seed), options.faults ?? [...FAULTS.keys()], tell);
  try {
    tell('all processes serve');
    watch.start();
    faults.start(least, most);
    await delay(seconds * 1000);
    await faults.stop();
    tell('no more faults');
    await untilDone(() => fleet.manager.pauseRotation(CREDENTIALS));
    await fleet.settled(SETTLE_WITHIN_MS);
    const pending = await Promise.all(
      fleet.processes.map(async (one) =>
        one.isRunning ? one.ask({ ask: 'stop-load', limitMs: STOP_LOAD_WITHIN_MS }) : [],
      ),
    );
    tell('settled');
    const hung = pending.flatMap((names, index) =>
      (names as readonly string[]).map((name) => `${fleet.at(index).name}: ${name} has not ended`),
    );
    await options.keepHistory?.(await fleet.history());
    const proof = await fleet.proof();
    const living = await watch.end(proof.retirements);
    const verdict = judgeQueries(fleet.started, fleet.leaseMs);
    const overlapping = overlappingChanges(target.log());
    const lost = await lostWrites(fleet, verdict.writes);
    const ended = fleet.started.flatMap(({ fault }) => fault ?? []);
    const moments = proof.promotions.map(({ at }) => at);
    const violations = [
      ...verdict.failed,
      ...proof.concurrentRotators,
      ...proof.earlyRetirements,
      ...living,
      ...lost,
      ...hung,
      ...overlapping,
      ...ended,
    ];
    return {
      seconds,
      processes,
      seed,
      queries: verdict.queries,
      failedOnSurvivors: verdict.failed.length,
      concurrentRotators: proof.concurrentRotators.length,
      earlyRetirements: proof.earlyRetirements.length,
      livingOldCredentials: living.length,
      lostWrites: lost.length,
      hung: hung.length,
      endedByThemselves: ended.length,
      overlappingChanges: overlapping.length,
      excused: verdict.excused,
      rotations: proof.promotions.length,
      retirements: proof.retirements.length,
      credentialsTried: watch.tried,
      outcomes: proof.outcomes,
      takeovers: proof.takeovers,
      longestWithoutRotationMs: Math.round(Math.max(0, ...moments.map((at, index) => at - (moments[index - 1] ?? at)))),
      faults: Object.fromEntries(faults.counts),
      violations: violations.slice(0, TOLD_VIOLATIONS),
    };
  } finally {
    await fleet.close();
  }
}

async function lostWrites(fleet: Fleet, acknowledged: ReadonlyMap<string, number>): Promise<string[]> {
  const rows = await fleet.servers.target.query<{ process: string; count: number }>(
    'SELECT process, count(*)::int AS count FROM payments GROUP BY process',
  );
  const stored = new Map(rows.map(({ process, count }) => [process, count]));
  return [...acknowledged]
    .filter(([name, count]) => (stored.get(name) ?? 0) < count)
    .map(([name, count]) => `${name}: ${count} writes were acknowledged, ${stored.get(name) ?? 0} are there`);
}

async function untilDone(work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await work();
      return;
    } catch {
      await delay(200);
    }
  }
}
