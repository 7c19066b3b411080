import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { loadSchema, moderate, runLoad, storedPayments, type LoadResult } from './pool/pool-load.js';
import { type RotatingApp, startRotatingApp } from './pool/rotating-app.js';
import { median, type Row } from './row.js';

const POOL_SIZE = 10;
const ROTATE_EVERY_MS = 500;
const ROTATIONS = 25;

/** A rotating application with policies and an audit log against the same without: its load, and how long a rotation takes. */
export async function benchGuarded({
  seconds,
  rounds,
}: {
  readonly seconds: number;
  readonly rounds: number;
}): Promise<Row[]> {
  const server = await startPostgres({ settings: { max_connections: '200' } });
  try {
    for (const statement of loadSchema) await server.query(statement);
    // Unmeasured: the first load meets cold caches, in the server and here.
    await underLoad(server, false, 3);
    const loads: Record<'guarded' | 'bare', LoadResult[]> = { guarded: [], bare: [] };
    const times: Record<'guarded' | 'bare', number[]> = { guarded: [], bare: [] };
    for (let round = 0; round < rounds; round += 1) {
      for (const side of ['guarded', 'bare'] as const) {
        loads[side].push(await underLoad(server, side === 'guarded', seconds));
        times[side].push(await rotationMs(server, side === 'guarded'));
      }
    }
    const against = (what: string, unit: string, guarded: number, bare: number): Row => ({
      name: `guarded: ${what}, against none`,
      value: guarded,
      baseline: bare,
      ratio: guarded / bare,
      unit,
    });
    const figure = (side: 'guarded' | 'bare', of: (load: LoadResult) => number): number => median(loads[side].map(of));
    const operations = (load: LoadResult): number => load.operations / seconds;
    const p99 = (load: LoadResult): number => load.shortQueryP99Ms;
    const failed = loads.guarded.reduce((sum, load) => sum + load.failed + load.hung + load.lostWrites, 0);
    return [
      against('operations, a rotation each 500 ms', '1/s', figure('guarded', operations), figure('bare', operations)),
      against('p99 of short queries, a rotation each 500 ms', 'ms', figure('guarded', p99), figure('bare', p99)),
      against('rotations that follow each other', '1/s', 1000 / median(times.guarded), 1000 / median(times.bare)),
      against(
        'failed, hung or lost, of operations',
        '',
        failed,
        loads.guarded.reduce((sum, load) => sum + load.operations, 0),
      ),
    ];
  } finally {
    await server.stop();
  }
}

async function withApp<T>(
  server: PostgresServer,
  guarded: boolean,
  rotateEveryMs: number | undefined,
  work: (app: RotatingApp) => Promise<T>,
): Promise<T> {
  const app = await startRotatingApp({
    server,
    strategy: 'alternating-users',
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

function underLoad(server: PostgresServer, guarded: boolean, seconds: number): Promise<LoadResult> {
  return withApp(server, guarded, ROTATE_EVERY_MS, (app) =>
    runLoad(app.target, moderate, { seconds, storedPayments: storedPayments(server) }),
  );
}

/** Milliseconds from a rotation to the next one, up to promotion. */
function rotationMs(server: PostgresServer, guarded: boolean): Promise<number> {
  return withApp(server, guarded, undefined, async (app) => {
    await app.rotate();
    const start = performance.now();
    for (let count = 0; count < ROTATIONS; count += 1) await app.rotate();
    return (performance.now() - start) / ROTATIONS;
  });
}
