import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import {
  borrow,
  createPool,
  createUsers,
  eventually,
  firstCredentials,
  rowsOf,
  sessionsOf,
  settled,
} from './live-pool-fixture.js';

describeWithMariadb('LiveMysqlPool.end', () => {
  let server: MariadbServer;
  const a = firstCredentials('end_a');
  const b = firstCredentials('end_b');

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'end_a', 'end_b');
  });
  afterAll(() => server.stop());

  // The server takes a moment to forget a session whose socket has closed.
  const noSessions = (): Promise<void> =>
    eventually('no session is left', async () => (await sessionsOf(server, 'end_')) === 0);

  it('refuses new callers, serves those in the queue, and resolves when nothing is open', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 1 });
    const connection = await borrow(pool);
    const queued = [rowsOf(pool, 'SELECT 1 AS number'), rowsOf(pool, 'SELECT 2 AS number')];
    const ended = pool.end();
    expect(pool.end()).toBe(ended);
    expect(await settled(borrow(pool))).toMatchObject({ status: 'rejected', reason: { code: 'LIVE_POOL_CLOSED' } });
    expect(await settled(rowsOf(pool, 'SELECT 1'))).toMatchObject({
      status: 'rejected',
      reason: { code: 'LIVE_POOL_CLOSED' },
    });
    connection.release();
    expect(await Promise.all(queued)).toEqual([[{ number: 1 }], [{ number: 2 }]]);
    await ended;
    expect(pool.generations().size).toBe(0);
    await noSessions();
    expect(secret.consumers.size).toBe(0);
    expect(secret.changes$.observed).toBe(false);
  });

  it('rejects callers still in the queue after endTimeoutMs, and waits for what is checked out', async () => {
    const { pool } = createPool(server, a, { connectionLimit: 1, endTimeoutMs: 20 });
    const connection = await borrow(pool);
    const queued = [settled(borrow(pool)), settled(rowsOf(pool, 'SELECT 1'))];
    const ended = pool.promise().end();
    for (const result of await Promise.all(queued)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'LIVE_POOL_CLOSED' } });
    }
    expect(await rowsOf(connection, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    connection.release();
    await ended;
    await noSessions();
  });

  it('waits for log-ins under way, refused ones included', async () => {
    const { pool, secret } = createPool(server, { ...a, password: 'wrong' });
    secret.others = [secret.version('v0', a)];
    const queries = [rowsOf(pool, 'SELECT 1 AS one'), rowsOf(pool, 'SELECT 1 AS one')];
    await pool.end();
    for (const rows of await Promise.all(queries)) expect(rows).toEqual([{ one: 1 }]);
    await noSessions();
  });

  it('stops a roll: a replacement under way is closed', async () => {
    let warming = false;
    let goOn = (): void => undefined;
    const { pool, secret } = createPool(server, a, {
      warmUp: () => {
        warming = true;
        return new Promise<void>((resolve) => (goOn = resolve));
      },
    });
    const connection = await borrow(pool);
    connection.release();
    secret.publish('v2', b);
    await eventually('a replacement is warming up', () => warming);
    const ended = pool.end();
    goOn();
    await ended;
    await noSessions();
    expect(secret.consumers.size).toBe(0);
  });

  it('ends while a busy connection has a replacement already', async () => {
    const { pool, secret } = createPool(server, a);
    const connection = await borrow(pool);
    secret.publish('v2', b);
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    const ended = pool.end();
    connection.release();
    await ended;
    await noSessions();
  });

  it('resolves on a pool that never connected, in callback style too', async () => {
    const { pool } = createPool(server, a);
    await new Promise<void>((resolve) => pool.end(() => resolve()));
    expect(await settled(borrow(pool))).toMatchObject({ reason: { code: 'LIVE_POOL_CLOSED' } });
  });
});
