import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import {
  borrow,
  createPool,
  createUsers,
  eventually,
  fill,
  firstCredentials,
  lock,
  rowsOf,
  sessionsOf,
  settled,
  unlock,
  whoAmI,
} from './live-pool-fixture.js';

describeWithMariadb('LiveMysqlPool after its process was paused', () => {
  let server: MariadbServer;
  const a = firstCredentials('pause_a');
  const b = firstCredentials('pause_b');

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'pause_a', 'pause_b');
  });
  afterAll(() => server.stop());

  /** A turn of the event loop in which what could happen would have happened. */
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('hands out nothing until the secret was read anew, and no session that others ended', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 3 });
    await fill(pool, 3);
    const paused = secret.pauseProcess();
    const failures: unknown[] = [];
    let served = 0;
    const queries = Array.from({ length: 6 }, () =>
      whoAmI(pool).then(
        (name) => {
          served += 1;
          return name;
        },
        (error: unknown) => failures.push(error),
      ),
    );
    // Others retire v1 meanwhile.
    await lock(server, 'pause_a');
    await server.query(`KILL USER 'pause_a'`);
    await turn();
    expect(served).toBe(0);
    paused.readAnew(() => secret.publish('v2', b));
    expect(await Promise.all(queries)).toEqual(Array.from({ length: 6 }, () => 'pause_b'));
    expect(failures).toEqual([]);
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(secret.reported).toEqual([]);
    await unlock(server, 'pause_a');
    await pool.end();
  });

  it('throws away idle connections of older versions before it hands one out, and keeps those of the current one', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 4 });
    const old = await borrow(pool);
    secret.publish('v2', b);
    await fill(pool, 1);
    const paused = secret.pauseProcess();
    old.release();
    const waiting = borrow(pool);
    paused.readAnew();
    const connection = await waiting;
    expect(pool.generations().get('v1')?.idle ?? 0).toBe(0);
    expect(await whoAmI(connection)).toBe('pause_b');
    connection.release();
    await pool.end();
  });

  it('keeps callers in order: those in the queue first, then those who came during the pause', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 1 });
    const connection = await borrow(pool);
    const order: number[] = [];
    const call = (number: number): Promise<unknown> => rowsOf(pool, 'SELECT 1').then(() => order.push(number));
    const calls = [call(1), call(2)];
    const paused = secret.pauseProcess();
    connection.release();
    calls.push(call(3), call(4));
    await turn();
    await turn();
    expect(order).toEqual([]);
    paused.readAnew();
    await Promise.all(calls);
    expect(order).toEqual([1, 2, 3, 4]);
    await pool.end();
  });

  it('waits again when the process is paused once more before anybody was let through', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 2 });
    await fill(pool, 2);
    const first = secret.pauseProcess();
    let served = false;
    const query = rowsOf(pool, 'SELECT 1').then(() => (served = true));
    first.readAnew();
    const second = secret.pauseProcess();
    for (let turns = 0; turns < 5; turns += 1) await turn();
    expect(served).toBe(false);
    second.readAnew();
    await query;
    await pool.end();
  });

  it('asks also for a connection that was being opened when the process stood still', async () => {
    const { pool, secret } = createPool(server, a);
    let paused: ReturnType<typeof secret.pauseProcess> | undefined;
    pool.on('connection', () => (paused ??= secret.pauseProcess()));
    let served = false;
    const opening = borrow(pool).then((connection) => {
      served = true;
      return connection;
    });
    await eventually('logged in', () => paused !== undefined);
    await turn();
    expect(served).toBe(false);
    paused?.readAnew(() => secret.publish('v2', b));
    const connection = await opening;
    expect(await whoAmI(connection)).toBe('pause_b');
    connection.release();
    await pool.end();
  });

  it('lets callers through when the secret cannot be read: what it knows is still current', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 2 });
    await fill(pool, 2);
    const outage = Promise.reject(new Error('store out'));
    secret.pause = outage;
    const query = rowsOf(pool, 'SELECT 1 AS one');
    secret.pause = undefined;
    expect(await query).toEqual([{ one: 1 }]);
    await expect(outage).rejects.toThrow('store out');
    await pool.end();
  });

  it('ends while callers are held back: they are served once the secret was read, or told when the time is over', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 1 });
    const paused = secret.pauseProcess();
    const queries = [rowsOf(pool, 'SELECT 1 AS one'), rowsOf(pool, 'SELECT 1 AS one')];
    const ended = pool.end();
    expect(await settled(rowsOf(pool, 'SELECT 1'))).toMatchObject({ reason: { code: 'LIVE_POOL_CLOSED' } });
    paused.readAnew();
    for (const rows of await Promise.all(queries)) expect(rows).toEqual([{ one: 1 }]);
    await ended;

    const impatient = createPool(server, a, { endTimeoutMs: 20 });
    const forGood = impatient.secret.pauseProcess();
    const query = settled(rowsOf(impatient.pool, 'SELECT 1'));
    await impatient.pool.end();
    expect(await query).toMatchObject({ reason: { code: 'LIVE_POOL_CLOSED' } });
    forGood.readAnew();
    await turn();
    expect(impatient.secret.consumers.size).toBe(0);
    await eventually('no session left', async () => (await sessionsOf(server, 'pause_')) === 0);
  });

  it('leaves a transaction that was open all along alone', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 2 });
    const connection = await borrow(pool);
    await connection.promise().beginTransaction();
    const paused = secret.pauseProcess();
    const other = rowsOf(pool, 'SELECT 1');
    paused.readAnew(() => secret.publish('v2', b));
    await other;
    expect(await whoAmI(connection)).toBe('pause_a');
    await connection.promise().commit();
    connection.release();
    await eventually('v1 drained', () => secret.held().join() === 'v2');
    await pool.end();
  });
});
