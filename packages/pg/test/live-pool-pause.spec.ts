import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret, settled } from './live-pool-fixture.js';

/** pg-pool without the members a roll needs, as a version to come may be. */
function withoutInternals<R>(make: () => R): R {
  const prototype = pg.Pool.prototype as { _pulseQueue?: unknown };
  const kept = prototype._pulseQueue;
  // Own properties would be found by pg-pool; only the check of the live pool looks at the type.
  let asked = 0;
  Object.defineProperty(prototype, '_pulseQueue', {
    configurable: true,
    get: () => (asked++ === 0 ? undefined : kept),
  });
  try {
    return make();
  } finally {
    Object.defineProperty(prototype, '_pulseQueue', { configurable: true, writable: true, value: kept });
  }
}

describe.each([
  ['rolling', <R>(make: () => R): R => make()],
  ['without the private members of pg-pool', withoutInternals],
])('LivePool after its process was paused, %s', (_way, within) => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };
  let secret: HandMadeSecret;

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'pause_a', 'pause_b');
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    secret = new HandMadeSecret('v1', firstCredentials('pause_a'));
  });

  function poolOf(max: number): LivePool {
    const pool = within(() => new LivePool(secret, { ...target, max, idleTimeoutMillis: 0 }));
    // Sessions that end while they lie idle are reported here.
    pool.on('error', () => undefined);
    return pool;
  }

  async function fill(pool: LivePool, count: number): Promise<void> {
    const clients = await Promise.all(Array.from({ length: count }, () => pool.connect()));
    for (const client of clients) client.release();
  }

  /** A turn of the event loop in which what could happen would have happened. */
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('hands out nothing until the secret was read anew, and no session that others ended', async () => {
    const pool = poolOf(3);
    await fill(pool, 3);
    // The sessions end while the process does not get to see it: others have retired v1.
    const paused = secret.pauseProcess();
    const failures: unknown[] = [];
    let served = 0;
    const queries = Array.from({ length: 6 }, () =>
      pool.query<{ name: string }>('SELECT current_user AS name').then(
        ({ rows }) => {
          served += 1;
          return rows[0]?.name;
        },
        (error: unknown) => failures.push(error),
      ),
    );
    await server.query('ALTER ROLE pause_a NOLOGIN');
    await server.query(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'pause_a'`);
    await turn();
    expect(served).toBe(0);
    paused.readAnew(() => secret.publish('v2', firstCredentials('pause_b')));
    expect(await Promise.all(queries)).toEqual(Array.from({ length: 6 }, () => 'pause_b'));
    expect(failures).toEqual([]);
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(server.log()).not.toContain('role "pause_a" is not permitted to log in');
    await server.query('ALTER ROLE pause_a LOGIN');
    await pool.end();
  });

  it('throws away idle connections of older versions before it hands one out, and keeps those of the current one', async () => {
    const pool = poolOf(4);
    const old = await pool.connect();
    secret.publish('v2', firstCredentials('pause_b'));
    await fill(pool, 1);
    const paused = secret.pauseProcess();
    old.release();
    const waiting = pool.connect();
    paused.readAnew();
    const client = await waiting;
    expect(pool.generations().get('v1')?.idle ?? 0).toBe(0);
    const { rows } = await client.query<{ name: string }>('SELECT current_user AS name');
    expect(rows).toEqual([{ name: 'pause_b' }]);
    client.release();
    await pool.end();
  });

  it('keeps callers in order: those in the queue first, then those who came during the pause', async () => {
    const pool = poolOf(1);
    const client = await pool.connect();
    const order: number[] = [];
    const call = (number: number): Promise<unknown> => pool.query('SELECT 1').then(() => order.push(number));
    const calls = [call(1), call(2)];
    const paused = secret.pauseProcess();
    calls.push(call(3));
    client.release();
    calls.push(call(4));
    // A connection and more from here to there and back: whoever had got one would have been answered.
    for (let trips = 0; trips < 3; trips += 1) await server.query('SELECT 1');
    expect(order).toEqual([]);
    paused.readAnew();
    await Promise.all(calls);
    expect(order).toEqual([1, 2, 3, 4]);
    await pool.end();
  });

  it('waits again when the process is paused once more before anybody was let through', async () => {
    const pool = poolOf(2);
    await fill(pool, 2);
    const first = secret.pauseProcess();
    let served = false;
    const query = pool.query('SELECT 1 AS one').then(() => (served = true));
    let second = { readAnew: (): void => undefined };
    first.readAnew();
    second = secret.pauseProcess();
    for (let turns = 0; turns < 5; turns += 1) await turn();
    expect(served).toBe(false);
    second.readAnew();
    await query;
    await pool.end();
  });

  it('lets callers through when the secret cannot be read: what it knows is still current', async () => {
    const pool = poolOf(2);
    await fill(pool, 2);
    const outage = Promise.reject(new Error('store out'));
    secret.pause = outage;
    const query = pool.query('SELECT 1 AS one');
    secret.pause = undefined;
    expect((await query).rows).toEqual([{ one: 1 }]);
    await expect(outage).rejects.toThrow('store out');
    await pool.end();
  });

  it('ends while callers are held back: they are served once the secret was read, or told when the time is over', async () => {
    const pool = poolOf(1);
    const paused = secret.pauseProcess();
    const queries = [pool.query('SELECT 1 AS one'), pool.query('SELECT 1 AS one')];
    const ended = pool.end();
    expect(await settled(pool.query('SELECT 1'))).toMatchObject({ reason: { code: 'LIVE_POOL_CLOSED' } });
    paused.readAnew();
    for (const { rows } of await Promise.all(queries)) expect(rows).toEqual([{ one: 1 }]);
    await ended;

    const impatient = within(() => new LivePool(secret, { ...target, endTimeoutMs: 20 }));
    const forGood = secret.pauseProcess();
    const query = settled(impatient.query('SELECT 1'));
    await impatient.end();
    expect(await query).toMatchObject({ reason: { code: 'LIVE_POOL_CLOSED' } });
    forGood.readAnew();
    await turn();
    expect(secret.consumers.size).toBe(0);
    const sessions = `SELECT FROM pg_stat_activity WHERE usename LIKE 'pause_%'`;
    await eventually('no session left', async () => (await server.query(sessions)).length === 0);
  });

  it('leaves a transaction that was open all along alone', async () => {
    const pool = poolOf(2);
    const client = await pool.connect();
    await client.query('BEGIN');
    const paused = secret.pauseProcess();
    const other = pool.query('SELECT 1 AS one');
    paused.readAnew(() => secret.publish('v2', firstCredentials('pause_b')));
    await other;
    expect((await client.query('SELECT current_user AS name')).rows).toEqual([{ name: 'pause_a' }]);
    await client.query('COMMIT');
    client.release();
    await eventually('v1 drained', () => secret.held().join() === 'v2');
    await pool.end();
  });
});
