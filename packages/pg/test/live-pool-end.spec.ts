import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret, settled } from './live-pool-fixture.js';

describe('LivePool.end', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'end_a', 'end_b');
  });
  afterAll(() => server.stop());

  const sessions = (): Promise<unknown[]> =>
    server.query(`SELECT usename FROM pg_stat_activity WHERE usename LIKE 'end_%'`);

  it('refuses new callers, serves those in the queue, and resolves when nothing is open', async () => {
    const secret = new HandMadeSecret('v1', firstCredentials('end_a'));
    const pool = new LivePool(secret, { ...target, max: 1 });
    const client = await pool.connect();
    const queued = [pool.query('SELECT 1 AS number'), pool.query('SELECT 2 AS number')];
    const ended = pool.end();
    expect(pool.end()).toBe(ended);
    expect(await settled(pool.connect())).toMatchObject({ status: 'rejected', reason: { code: 'LIVE_POOL_CLOSED' } });
    expect(await settled(pool.query('SELECT 1'))).toMatchObject({
      status: 'rejected',
      reason: { code: 'LIVE_POOL_CLOSED' },
    });
    client.release();
    expect((await Promise.all(queued)).map(({ rows }) => rows)).toEqual([[{ number: 1 }], [{ number: 2 }]]);
    await ended;
    expect(await sessions()).toEqual([]);
    expect(secret.consumers.size).toBe(0);
    expect(secret.changes$.observed).toBe(false);
  });

  it('rejects callers still in the queue after endTimeoutMs, and waits for what is checked out', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('end_a')), {
      ...target,
      max: 1,
      endTimeoutMs: 20,
    });
    const client = await pool.connect();
    const queued = [settled(pool.connect()), settled(pool.query('SELECT 1'))];
    const ended = pool.end();
    for (const result of await Promise.all(queued)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'LIVE_POOL_CLOSED' } });
    }
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    client.release();
    await ended;
    expect(await sessions()).toEqual([]);
  });

  it('waits for log-ins under way, refused ones included', async () => {
    const secret = new HandMadeSecret('v1', { ...firstCredentials('end_a'), password: 'wrong' });
    secret.others = [secret.version('v0', firstCredentials('end_a'))];
    const pool = new LivePool(secret, target);
    const queries = [pool.query('SELECT 1 AS one'), pool.query('SELECT 1 AS one')];
    await pool.end();
    for (const { rows } of await Promise.all(queries)) expect(rows).toEqual([{ one: 1 }]);
    expect(await sessions()).toEqual([]);
  });

  it('stops a roll: a replacement under way is closed', async () => {
    const secret = new HandMadeSecret('v1', firstCredentials('end_a'));
    let warming = false;
    let goOn = (): void => undefined;
    const pool = new LivePool(secret, {
      ...target,
      warmUp: () => {
        warming = true;
        return new Promise<void>((resolve) => (goOn = resolve));
      },
    });
    const client = await pool.connect();
    client.release();
    secret.publish('v2', firstCredentials('end_b'));
    await eventually('a replacement is warming up', () => warming);
    const ended = pool.end();
    goOn();
    await ended;
    expect(await sessions()).toEqual([]);
    expect(secret.consumers.size).toBe(0);
  });

  it('ends while a busy connection has a replacement already', async () => {
    const secret = new HandMadeSecret('v1', firstCredentials('end_a'));
    const pool = new LivePool(secret, target);
    const client = await pool.connect();
    secret.publish('v2', firstCredentials('end_b'));
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    const ended = pool.end();
    client.release();
    await ended;
    expect(await sessions()).toEqual([]);
  });

  it('resolves on a pool that never connected, in callback style too', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('end_a')), target);
    await new Promise<void>((resolve) => pool.end(resolve));
    const [error] = await new Promise<unknown[]>((resolve) => pool.connect((...input) => resolve(input)));
    expect(error).toMatchObject({ code: 'LIVE_POOL_CLOSED' });
  });
});
