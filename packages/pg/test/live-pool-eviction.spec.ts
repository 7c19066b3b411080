import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { LivePool } from '../src/pool/index.js';
import { poolInternals } from '../src/pool/pool-internals.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret } from './live-pool-fixture.js';

describe('LivePool on a pg-pool without the members a roll needs', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };
  const a = firstCredentials('evict_a');
  const b = firstCredentials('evict_b');

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'evict_a', 'evict_b');
  });
  afterAll(() => server.stop());

  class ForeignPool extends LivePool {}
  Object.defineProperty(ForeignPool.prototype, 'newClient', {
    value(this: LivePool, ...input: unknown[]) {
      const { newClient } = Object.getPrototypeOf(LivePool.prototype) as { newClient: (...input: unknown[]) => void };
      newClient.apply(this, input);
    },
  });

  it('is the guard that says so', async () => {
    const secret = new HandMadeSecret('v1', a);
    const [foreign, own] = [new ForeignPool(secret, target), new LivePool(secret, target)];
    expect(poolInternals(foreign)).toBeUndefined();
    // The contract with the installed pg-pool: when this fails after an update, look at pool-internals.ts.
    expect(poolInternals(own)).toBeDefined();
    await Promise.all([foreign.end(), own.end()]);
  });

  it('evicts idle connections at once and busy ones as they come back, and opens none beyond max', async () => {
    const secret = new HandMadeSecret('v1', a);
    const pool = new ForeignPool(secret, { ...target, max: 3 });
    for (const client of await Promise.all([pool.connect(), pool.connect(), pool.connect()])) client.release();
    const busy = await pool.connect();
    let most = 0;
    pool.on('connect', () => (most = Math.max(most, pool.totalCount)));
    secret.publish('v2', b);
    await eventually('the idle ones gone', () => pool.generations().get('v1')?.total === 1);
    expect((await pool.query('SELECT current_user AS name')).rows).toEqual([{ name: 'evict_b' }]);
    busy.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(most).toBeLessThanOrEqual(3);
    await pool.end();
  });
});
