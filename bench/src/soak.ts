import pg from 'pg';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { loadSchema, runLoad, saturated, storedPayments } from './pool/pool-load.js';
import { startRotatingApp, type RotatingApp, type Strategy } from './pool/rotating-app.js';
import type { Row } from './row.js';

const EVERY_MS = 500;
const POOL_SIZE = 10;
// Loads of this length, so that waiters that hang are found out soon.
const STRETCH_SECONDS = 30;

export interface SoakOptions {
  readonly rotations: number;
  /** Both, unless one is named. */
  readonly strategy: Strategy | undefined;
}

/** Rotates over a saturated pool for as long as it takes, and then tries every credential that was ever current. */
export async function benchSoak({ rotations, strategy }: SoakOptions): Promise<Row[]> {
  const strategies: readonly Strategy[] = strategy === undefined ? ['alternating-users', 'single-user'] : [strategy];
  const rows: Row[] = [];
  for (const each of strategies) rows.push(...(await soak(each, rotations)));
  return rows;
}

async function soak(strategy: Strategy, rotations: number): Promise<Row[]> {
  const server = await startPostgres({ settings: { max_connections: '200' } });
  try {
    for (const statement of loadSchema) await server.query(statement);
    const app = await startRotatingApp({
      server,
      strategy,
      adoption: 'live',
      applicationName: `soak ${strategy}`,
      rotateEveryMs: EVERY_MS,
      poolSize: POOL_SIZE,
    });
    const sum = { operations: 0, failed: 0, hung: 0, lostWrites: 0, unfinished: 0 };
    while (app.rotations < rotations) {
      const seconds = Math.min(STRETCH_SECONDS, Math.ceil(((rotations - app.rotations) * EVERY_MS) / 1000) + 1);
      const result = await runLoad(app.target, saturated, { seconds, storedPayments: storedPayments(server) });
      sum.operations += result.operations;
      sum.failed += result.failed;
      sum.hung += result.hung;
      sum.lostWrites += result.lostWrites;
      sum.unfinished += result.longTransactionsStarted - result.longTransactionsFinished;
      console.log(
        `  ${strategy}: ${app.rotations} rotations, ${sum.operations} operations, ${sum.failed} failed, ${sum.hung} hung, ${sum.lostWrites} lost ${JSON.stringify(result.failures)}`,
      );
    }
    await app.stopRotating();
    const old = await tryOldCredentials(server, app);
    await app.close();
    const row = (what: string, value: number, baseline: number): Row => ({
      name: `soak, ${strategy}: ${what}`,
      value,
      baseline,
      ratio: value / baseline,
      unit: '',
    });
    return [
      row('rotations, of those wanted', app.rotations, rotations),
      row('failed, of operations', sum.failed, sum.operations),
      row('hung, of operations', sum.hung, sum.operations),
      row('acknowledged writes lost, of operations', sum.lostWrites, sum.operations),
      row('2 s transactions unfinished', sum.unfinished, sum.operations),
      row(
        'retired and seen refused, of rotations',
        app.retired.filter(({ refused, sessionsLeft }) => refused && sessionsLeft === 0).length,
        app.rotations,
      ),
      row('old credentials refused at the end, of those tried', old.refused, old.tried),
      row('sessions of old credentials', old.sessions, 1),
      row('failed rotation steps', app.failures.length, app.rotations),
    ];
  } finally {
    await server.stop();
  }
}

/** Logs in with every credential that was current once and is not any more. */
async function tryOldCredentials(
  server: PostgresServer,
  app: RotatingApp,
): Promise<{ tried: number; refused: number; sessions: number }> {
  const old = app.credentials.slice(0, -1);
  const current = app.credentials.at(-1);
  let refused = 0;
  for (const { username, password } of old) {
    const client = new pg.Client({
      host: server.host,
      port: server.port,
      database: server.database,
      user: username,
      password,
    });
    try {
      await client.connect();
    } catch (error) {
      if (error instanceof pg.DatabaseError && (error.code === '28P01' || error.code === '28000')) refused += 1;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  const users = [...new Set(old.map(({ username }) => username))].filter((username) => username !== current?.username);
  const [row] = await server.query<{ sessions: number }>(
    'SELECT count(*)::int AS sessions FROM pg_stat_activity WHERE usename = ANY($1)',
    [users],
  );
  return { tried: old.length, refused, sessions: row?.sessions ?? 0 };
}
