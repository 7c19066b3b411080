import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseDuration } from '@nestjs-secrets/core';
import { EmbeddedPostgres } from '../database/embedded-postgres.js';
import type { DemoOptions } from './demo-options.js';
import type { RetirementProof } from './messages.js';
import { MyAppProcess } from './my-app-process.js';
import { LoadFigures, runOrderLoad } from './order-load.js';
import type { Progress } from './progress.js';
import { ServerWatch } from './server-watch.js';

export type RunName = 'baseline' | 'live' | 'naive';

/** What `--json` says of each run. */
export interface RunReport {
  readonly requests: number;
  readonly failed: number;
  readonly rotations: number;
  readonly throughputPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly maxServerConnections: number;
}

export interface DemoRun {
  readonly report: RunReport;
  readonly shortReads: { readonly p50Ms: number; readonly p99Ms: number };
  /** Transactions of 2 s that clients asked for, and those that came through. */
  readonly longTransactions: { readonly begun: number; readonly done: number };
  /** Payments MyApp acknowledged that are not in the database. */
  readonly lostPayments: number;
  readonly proof: RetirementProof;
  /** Messages of failures with how often each came. */
  readonly failures: ReadonlyMap<string, number>;
  readonly appOutput: string;
}

const WARM_UP_MS = 2000;
const PROGRESS_EVERY_MS = 250;
const LONGEST_TRANSACTION_MS = 3000;
const LARGEST_RING = 50;

/** One run, on a PostgreSQL and a store of its own, so that no run inherits anything from the one before. */
export async function demoRun(
  name: RunName,
  options: DemoOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<DemoRun> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-demo-'));
  const cleanUp: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
  try {
    // As root, the server runs under an account of its own, which must be able to enter.
    await chmod(folder, 0o755);
    const postgres = await EmbeddedPostgres.start(path.join(folder, 'postgres'));
    cleanUp.push(() => postgres.stop());
    await postgres.ensureDatabase('myapp');
    const { username, password } = postgres.admin;
    const adminUrl = `postgres://${username}:${encodeURIComponent(password)}@${postgres.host}:${postgres.port}/myapp`;
    const watch = await ServerWatch.start(adminUrl);
    cleanUp.push(() => watch.stop());
    const { app, url } = await MyAppProcess.start(name === 'naive' ? 'naive' : 'live', {
      DATABASE_URL: adminUrl,
      PORT: '0',
      POOL_SIZE: '10',
      DATA_DIR: path.join(folder, 'data'),
      KEY_FILE: path.join(folder, 'keys', 'my-app.json'),
      ROTATE_EVERY: name === 'baseline' ? 'never' : String(options.rotateEvery),
      ROTATION_STRATEGY: options.strategy,
      ROLES: String(ringSize(options)),
      NODE_ENV: 'development',
    });
    cleanUp.push(() => app.stop());
    return await measure({ name, options, progress, signal, app, url, watch });
  } finally {
    for (const step of cleanUp.toReversed()) await step();
  }
}

/** Wide enough that a transaction of 2 s is through before its role's turn comes again. */
function ringSize({ rotateEvery }: DemoOptions): number {
  const intervalMs = parseDuration(rotateEvery) ?? LONGEST_TRANSACTION_MS;
  return Math.min(LARGEST_RING, Math.ceil(LONGEST_TRANSACTION_MS / intervalMs) + 2);
}

interface Measurement {
  readonly name: RunName;
  readonly options: DemoOptions;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly app: MyAppProcess;
  readonly url: string;
  readonly watch: ServerWatch;
}

async function measure({ name, options, progress, signal, app, url, watch }: Measurement): Promise<DemoRun> {
  const figures = new LoadFigures();
  let rotations = 0;
  let generations: Readonly<Record<string, number>> = {};
  app.on('message', (message) => {
    if (message.type === 'promoted' && figures.measuring) rotations += 1;
    if (message.type === 'generations') generations = message.connections;
  });
  const ending = new AbortController();
  const load = runOrderLoad(url, options.clients, figures, AbortSignal.any([signal, ending.signal]));
  await delay(WARM_UP_MS, undefined, { signal });
  watch.forget();
  figures.measuring = true;
  const startedAt = performance.now();
  const timer = setInterval(
    () => progress.show({ name, elapsedMs: performance.now() - startedAt, rotations, figures, generations }),
    PROGRESS_EVERY_MS,
  );
  try {
    await delay(options.seconds * 1000, undefined, { signal });
  } finally {
    clearInterval(timer);
    figures.measuring = false;
    ending.abort();
    await load;
  }
  const measuredMs = performance.now() - startedAt;
  const maxServerConnections = watch.maxConnections;
  progress.done();
  const proof = await app.prove();
  const { all, shortReads, failed, failures, acknowledgedPayments } = figures;
  return {
    report: {
      requests: all.count,
      failed,
      rotations,
      throughputPerSecond: rounded((all.count - failed) / (measuredMs / 1000)),
      p50Ms: rounded(all.quantile(0.5)),
      p99Ms: rounded(all.quantile(0.99)),
      maxMs: rounded(all.quantile(1)),
      maxServerConnections,
    },
    shortReads: { p50Ms: rounded(shortReads.quantile(0.5)), p99Ms: rounded(shortReads.quantile(0.99)) },
    longTransactions: { begun: figures.longTransactionsBegun, done: figures.longTransactionsDone },
    lostPayments: Math.max(0, acknowledgedPayments - (await watch.countPayments())),
    proof,
    failures,
    appOutput: app.lastOutput,
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
