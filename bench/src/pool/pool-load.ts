import { setTimeout as delay } from 'node:timers/promises';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { createLatencies } from './latencies.js';

/** Runs one statement, on whatever connection the transaction or the pool has for it. */
export type RunStatement = (text: string, values?: readonly unknown[]) => Promise<unknown>;

/** What is put under load: a pool, a DataSource, anything that runs statements. */
export interface LoadTarget {
  query: RunStatement;
  /** Runs `work` in a transaction: commits when it resolves, rolls back when it rejects. */
  transaction(work: (query: RunStatement) => Promise<void>): Promise<void>;
}

/** Who works, how much, and with how long a pause after each operation. */
export interface LoadShape {
  readonly workers: number;
  /** Milliseconds a worker pauses after an operation: uniformly from 0 to twice this. */
  readonly thinkMs: number;
  /** How many of 1,000 operations are transactions of 20–50 ms. */
  readonly transactionsPerMille: number;
  /** How many of 1,000 operations are transactions of 2 s. */
  readonly longTransactionsPerMille: number;
}

/** 32 workers without a pause on a pool of 10: there is always somebody waiting. */
export const saturated: LoadShape = { workers: 32, thinkMs: 0, transactionsPerMille: 100, longTransactionsPerMille: 1 };

/** 14 workers with pauses: a connection is free most of the time, so that latencies show what a rotation costs. */
export const moderate: LoadShape = { workers: 14, thinkMs: 20, transactionsPerMille: 250, longTransactionsPerMille: 3 };

/** The same with half the transactions: its p99 without rotation is lower, and so shows more of what a rotation costs. */
export const light: LoadShape = { workers: 14, thinkMs: 20, transactionsPerMille: 120, longTransactionsPerMille: 2 };

export interface LoadOptions {
  readonly seconds: number;
  /** How many payments of a run the table holds, asked on a connection that is not under test. */
  readonly storedPayments: (run: string) => Promise<number>;
  /** Called for each failed operation. */
  readonly onFailure?: (error: unknown) => void;
}

export interface LoadResult {
  /** Operations that were done within the time, failed ones left out. */
  readonly operations: number;
  readonly failed: number;
  /** Operations that had neither finished nor failed 15 s after the last one was begun. */
  readonly hung: number;
  /** Committed writes that are not in the table afterwards. */
  readonly lostWrites: number;
  readonly longTransactionsStarted: number;
  readonly longTransactionsFinished: number;
  readonly shortQueries: number;
  readonly shortQueryP50Ms: number;
  readonly shortQueryP99Ms: number;
  readonly shortQueryMaxMs: number;
  /** Messages of failures with how often each came. */
  readonly failures: Readonly<Record<string, number>>;
}

const HUNG_AFTER_MS = 15_000;
const ROWS = 1000;

/** The statements that make the load's table, for the owner to run once before any load. */
export const loadSchema: readonly string[] = [
  'CREATE TABLE load_orders (id int PRIMARY KEY, customer text NOT NULL, amount numeric NOT NULL, paid boolean NOT NULL DEFAULT false)',
  `INSERT INTO load_orders SELECT n, 'customer ' || n % 100, n FROM generate_series(1, ${ROWS}) AS n`,
  'CREATE INDEX ON load_orders (customer)',
  'CREATE TABLE load_payments (run text NOT NULL, number int NOT NULL, order_id int NOT NULL, PRIMARY KEY (run, number))',
  'GRANT SELECT, INSERT, UPDATE ON load_orders, load_payments TO PUBLIC',
];

/** Counts payments as the administrator. */
export function storedPayments(server: PostgresServer): LoadOptions['storedPayments'] {
  return async (run) => {
    const [row] = await server.query<{ stored: number }>(
      'SELECT count(*)::int AS stored FROM load_payments WHERE run = $1',
      [run],
    );
    return row?.stored ?? 0;
  };
}

/** Puts the target under load and says how it did. The same shape makes the same sequence of operations in each worker. */
export async function runLoad(target: LoadTarget, shape: LoadShape, options: LoadOptions): Promise<LoadResult> {
  const run = `${Date.now()}-${process.hrtime.bigint()}`;
  const latencies = createLatencies();
  const failures: Record<string, number> = {};
  const endsAt = Date.now() + options.seconds * 1000;
  let operations = 0;
  let failed = 0;
  let payments = 0;
  let committed = 0;
  let longTransactionsStarted = 0;
  let longTransactionsFinished = 0;

  const shortQuery = async (random: () => number): Promise<void> => {
    const startedAt = performance.now();
    if (random() < 0.7)
      await target.query('SELECT id, amount, paid FROM load_orders WHERE id = $1', [1 + Math.floor(random() * ROWS)]);
    else
      await target.query('SELECT count(*) AS n, sum(amount) AS total FROM load_orders WHERE customer = $1', [
        `customer ${Math.floor(random() * 100)}`,
      ]);
    latencies.add(performance.now() - startedAt);
  };
  const transaction = async (durationMs: number, random: () => number): Promise<void> => {
    const number = (payments += 1);
    const orderId = 1 + Math.floor(random() * ROWS);
    await target.transaction(async (query) => {
      await query('INSERT INTO load_payments (run, number, order_id) VALUES ($1, $2, $3)', [run, number, orderId]);
      await query('SELECT pg_sleep($1)', [durationMs / 1000]);
      await query('SELECT paid FROM load_orders WHERE id = $1', [orderId]);
    });
    committed += 1;
  };
  const operation = async (random: () => number): Promise<void> => {
    const dice = random() * 1000;
    if (dice < shape.longTransactionsPerMille) {
      longTransactionsStarted += 1;
      await transaction(2000, random);
      longTransactionsFinished += 1;
    } else if (dice < shape.longTransactionsPerMille + shape.transactionsPerMille)
      await transaction(20 + random() * 30, random);
    else await shortQuery(random);
  };
  const worker = async (number: number): Promise<void> => {
    const random = createRandom(number);
    while (Date.now() < endsAt) {
      try {
        await operation(random);
        if (Date.now() < endsAt) operations += 1;
      } catch (error) {
        failed += 1;
        const message = error instanceof Error ? error.message : String(error);
        failures[message] = (failures[message] ?? 0) + 1;
        options.onFailure?.(error);
        // A target that fails at once would otherwise be asked some ten thousand times a second.
        await delay(5);
      }
      if (shape.thinkMs > 0) await delay(random() * 2 * shape.thinkMs);
    }
  };

  let working = shape.workers;
  const workers = Array.from({ length: shape.workers }, (_, index) => worker(index + 1).then(() => (working -= 1)));
  const patience = new AbortController();
  await Promise.race([
    Promise.all(workers),
    delay(options.seconds * 1000 + HUNG_AFTER_MS, undefined, { signal: patience.signal }).catch(() => undefined),
  ]);
  patience.abort();
  const hung = working;
  const lostWrites = Math.max(0, committed - (await options.storedPayments(run)));
  return {
    operations,
    failed,
    hung,
    lostWrites,
    longTransactionsStarted,
    longTransactionsFinished,
    shortQueries: latencies.count,
    shortQueryP50Ms: latencies.quantile(0.5),
    shortQueryP99Ms: latencies.quantile(0.99),
    shortQueryMaxMs: latencies.quantile(1),
    failures,
  };
}

/** A linear congruential generator (the constants of Numerical Recipes): the loads of two runs should differ in what is measured only. */
function createRandom(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
