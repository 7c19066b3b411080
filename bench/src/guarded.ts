import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import {
  loadSchema,
  moderate,
  runLoad,
  saturated,
  storedPayments,
  type LoadResult,
  type LoadShape,
} from './pool/pool-load.js';
import { type RotatingApp, startRotatingApp, type Strategy } from './pool/rotating-app.js';
import { rollbackTimes } from './rollback.js';
import { median, type Row } from './row.js';

const POOL_SIZE = 10;
const ROTATE_EVERY_MS = 500;
const ROTATIONS = 25;

interface Load {
  readonly label: string;
  readonly shape: LoadShape;
  readonly strategy: Strategy;
}

/** Those of the pool benchmark that have a number to keep, each with a rotation every 500 ms. */
const LOADS: readonly Load[] = [
  { label: 'moderate load, alternating users', shape: moderate, strategy: 'alternating-users' },
  { label: 'moderate load, single user', shape: moderate, strategy: 'single-user' },
  { label: 'saturated, alternating users', shape: saturated, strategy: 'alternating-users' },
];

const ROTATIONS_ALONE = 'rotations that follow each other';
const ROLLBACKS = 'rollbacks, one over the median time from the first to the last refused query';

interface Sides<T> {
  readonly guarded: T[];
  readonly bare: T[];
}

/** A rotating application with policies and an audit log against the same without: its loads, how often it can rotate, and how soon it takes a bad credential back. */
export async function benchGuarded(options: {
  readonly seconds: number;
  readonly rounds: number;
  readonly rollbacks: number;
  /** Only what has this in its name. */
  readonly way: string | undefined;
}): Promise<Row[]> {
  const isWanted = (label: string): boolean => label.includes(options.way ?? '');
  const loads = LOADS.filter(({ label }) => isWanted(label));
  const server = await startPostgres({ settings: { max_connections: '200' } });
  const rows: Row[] = [];
  try {
    for (const statement of loadSchema) await server.query(statement);
    // Unmeasured: the first load meets cold caches, in the server and here.
    for (const load of loads.slice(0, 1)) await underLoad(server, load, false, 3);
    for (const load of loads) rows.push(...(await benchLoad(server, load, options)));
    if (isWanted(ROTATIONS_ALONE)) {
      const times = await inTurns(options.rounds, (guarded) => rotationMs(server, guarded));
      rows.push(against(ROTATIONS_ALONE, '1/s', 1000 / median(times.guarded), 1000 / median(times.bare)));
    }
  } finally {
    await server.stop();
  }
  return isWanted(ROLLBACKS) ? [...rows, await benchRollbackGuarded(options)] : rows;
}

/** One side after the other, again and again, so that what the machine does meanwhile happens to both. */
async function inTurns<T>(rounds: number, measure: (guarded: boolean) => Promise<T>): Promise<Sides<T>> {
  const sides: Sides<T> = { guarded: [], bare: [] };
  for (let round = 0; round < rounds; round += 1) {
    // Whoever is first may leave something to do for the second.
    const order = round % 2 === 0 ? (['guarded', 'bare'] as const) : (['bare', 'guarded'] as const);
    for (const side of order) sides[side].push(await measure(side === 'guarded'));
  }
  return sides;
}

async function benchLoad(
  server: PostgresServer,
  load: Load,
  { seconds, rounds }: { readonly seconds: number; readonly rounds: number },
): Promise<Row[]> {
  const { guarded, bare } = await inTurns(rounds, (isGuarded) => underLoad(server, load, isGuarded, seconds));
  const row = (what: string, unit: string, figure: (of: LoadResult) => number): Row =>
    against(`${load.label}: ${what}`, unit, median(guarded.map(figure)), median(bare.map(figure)));
  const sum = (figure: (of: LoadResult) => number): number => guarded.reduce((total, one) => total + figure(one), 0);
  return [
    row('operations', '1/s', ({ operations }) => operations / seconds),
    row('p99 of short queries', 'ms', ({ shortQueryP99Ms }) => shortQueryP99Ms),
    against(
      `${load.label}: failed, hung or lost, of operations`,
      '',
      sum(({ failed, hung, lostWrites }) => failed + hung + lostWrites),
      sum(({ operations }) => operations),
    ),
  ];
}

async function benchRollbackGuarded({ rollbacks }: { readonly rollbacks: number }): Promise<Row> {
  const { guarded, bare } = await inTurns(4, (isGuarded) => rollbackTimes(Math.ceil(rollbacks / 4), isGuarded));
  return against(ROLLBACKS, '1/s', 1000 / median(guarded.flat()), 1000 / median(bare.flat()));
}

function against(what: string, unit: string, value: number, baseline: number): Row {
  return { name: `guarded against bare, ${what}`, value, baseline, ratio: value / baseline, unit };
}

async function withApp<T>(
  server: PostgresServer,
  strategy: Strategy,
  guarded: boolean,
  rotateEveryMs: number | undefined,
  work: (app: RotatingApp) => Promise<T>,
): Promise<T> {
  const app = await startRotatingApp({
    server,
    strategy,
    adoption: 'live',
    applicationName: `bench guarded ${guarded}`,
    rotateEveryMs,
    poolSize: POOL_SIZE,
    guarded,
  });
  try {
    return await work(app);
  } finally {
    await app.stopRotating();
    await app.close();
  }
}

function underLoad(server: PostgresServer, load: Load, guarded: boolean, seconds: number): Promise<LoadResult> {
  return withApp(server, load.strategy, guarded, ROTATE_EVERY_MS, (app) =>
    runLoad(app.target, load.shape, { seconds, storedPayments: storedPayments(server) }),
  );
}

/** Milliseconds from a rotation to the next one, up to promotion. */
function rotationMs(server: PostgresServer, guarded: boolean): Promise<number> {
  return withApp(server, 'alternating-users', guarded, undefined, async (app) => {
    await app.rotate();
    const start = performance.now();
    for (let count = 0; count < ROTATIONS; count += 1) await app.rotate();
    return (performance.now() - start) / ROTATIONS;
  });
}
