import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startRefusingProxy } from 'nestjs-secrets-test/refusing-proxy';
import type { LiveMysqlPool, LiveMysqlPoolConfig } from '../src/pool/index.js';
import {
  borrow,
  borrowAll,
  createPool as createPoolOn,
  createUsers,
  eventually,
  fill,
  firstCredentials,
  rowsOf,
  setPassword,
  settled,
  whoAmI,
} from './live-pool-fixture.js';
import type { PoolOnSecret } from './live-pool-fixture.js';

describeWithMariadb('LiveMysqlPool, rolling to a new version', () => {
  let server: MariadbServer;
  const a = firstCredentials('roll_a');
  const b = firstCredentials('roll_b');
  const c = firstCredentials('roll_c');

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'roll_a', 'roll_b', 'roll_c');
  });
  afterAll(() => server.stop());

  const createPool = (config: LiveMysqlPoolConfig = {}): PoolOnSecret =>
    createPoolOn(server, a, { connectionLimit: 5, ...config });

  const total = (pool: LiveMysqlPool): number =>
    [...pool.generations().values()].reduce((sum, generation) => sum + generation.idle + generation.busy, 0);

  it.each([1, 2] as const)(
    'replaces idle connections one for one, never fewer, never more than %i beyond them',
    async (concurrency) => {
      const { pool, secret } = createPool({ replacement: { concurrency } });
      await fill(pool, 5);
      const [usable, open] = [new Set<number>(), new Set<number>()];
      secret.onUpdate = () => {
        usable.add(total(pool));
        open.add([...pool.generations().values()].reduce((sum, generation) => sum + generation.total, 0));
      };
      for (const event of ['connection', 'release'] as const) pool.on(event, () => secret.onUpdate());
      secret.publish('v2', b);
      await eventually('only v2', () => secret.held().join() === 'v2');
      expect(pool.generations().get('v2')).toEqual({ total: 5, idle: 5, busy: 0 });
      expect(Math.min(...usable)).toBe(5);
      expect(Math.max(...open)).toBeLessThanOrEqual(5 + concurrency);
      await pool.end();
    },
  );

  it('opens nothing when it has nothing to replace', async () => {
    const { pool, secret } = createPool();
    let opened = 0;
    pool.on('connection', () => (opened += 1));
    secret.publish('v2', b);
    await whoAmI(pool);
    expect(opened).toBe(1);
    expect(secret.held()).toEqual(['v2']);
    await pool.end();
  });

  it('keeps to what the server grants: connectionLimit + 1 connections, with everybody busy and waiting', async () => {
    for (const user of ['roll_a', 'roll_b', 'roll_c']) await limit(user, 6);
    const { pool, secret } = createPool({ replacement: { paceMs: 0 } });
    await fill(pool, 5);
    let [working, done, most] = [true, 0, 0];
    pool.on('connection', () => (most = Math.max(most, total(pool))));
    const failures: unknown[] = [];
    const workers = Array.from({ length: 12 }, async () => {
      while (working) {
        await rowsOf(pool, 'SELECT SLEEP(0.001)').then(
          () => (done += 1),
          (error: unknown) => failures.push(error),
        );
      }
    });
    for (let number = 2; number <= 9; number += 1) {
      const id = `v${number}`;
      secret.publish(id, [a, b, c][number % 3] ?? a);
      await eventually(`only ${id}`, () => secret.held().join() === id);
    }
    working = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(done).toBeGreaterThan(0);
    expect(most).toBe(6);
    await pool.end();
    for (const user of ['roll_a', 'roll_b', 'roll_c']) await limit(user, 0);
  });

  const limit = (user: string, connections: number): Promise<unknown> =>
    server.query(`ALTER USER '${user}'@'%' WITH MAX_USER_CONNECTIONS ${connections}`);

  it('lets a busy connection finish its transaction, and takes it out when it comes back', async () => {
    const { pool, secret } = createPool({ connectionLimit: 2 });
    await fill(pool, 2);
    const connection = await borrow(pool);
    await connection.promise().beginTransaction();
    secret.publish('v2', b);
    await eventually('the idle one replaced', () => pool.generations().get('v2')?.idle === 2);
    expect(pool.generations().get('v1')).toEqual({ total: 1, idle: 0, busy: 1 });
    expect(await whoAmI(connection)).toBe('roll_a');
    await connection.promise().commit();
    connection.release();
    await eventually('v1 drained', () => secret.held().join() === 'v2');
    expect(total(pool)).toBe(2);
    await pool.end();
  });

  it('serves a waiter with the replacement while all others are busy', async () => {
    const { pool, secret } = createPool({ connectionLimit: 2 });
    const busy = await borrowAll(pool, 2);
    const waiting = borrow(pool);
    secret.publish('v2', b);
    const connection = await waiting;
    expect(await whoAmI(connection)).toBe('roll_b');
    expect(total(pool)).toBe(3);
    connection.release();
    for (const one of busy) one.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(total(pool)).toBe(2);
    await pool.end();
  });

  it('waits for connections that never come back without opening more than one replacement', async () => {
    const { pool, secret } = createPool({ connectionLimit: 3 });
    const stuck = await borrowAll(pool, 3);
    let opened = 0;
    pool.on('connection', () => (opened += 1));
    secret.publish('v2', b);
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    secret.publish('v3', c);
    await eventually('aimed at v3', () => pool.generations().get('v3')?.idle === 1 && !secret.held().includes('v2'));
    expect(total(pool)).toBe(4);
    expect(opened).toBe(2);
    for (const connection of stuck) connection.release();
    await eventually('only v3', () => secret.held().join() === 'v3');
    expect(total(pool)).toBe(3);
    await pool.end();
  });

  it('takes a connection that broke for one that left', async () => {
    const { pool, secret } = createPool({ connectionLimit: 2 });
    const [first, second] = await borrowAll(pool, 2);
    secret.publish('v2', b);
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    await server.query(`KILL CONNECTION ${first?.threadId}`);
    await eventually('both replacements are there', () => pool.generations().get('v2')?.idle === 2);
    first?.release();
    second?.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(total(pool)).toBe(2);
    await pool.end();
  });

  it('aims at the newest version when the secret changes in the midst of a roll, and goes back when told so', async () => {
    const { pool, secret } = createPool();
    await fill(pool, 5);
    secret.publish('v2', b);
    await eventually('the roll is under way', () => (pool.generations().get('v2')?.idle ?? 0) >= 2);
    secret.publish('v3', c);
    await eventually('the next roll is under way', () => (pool.generations().get('v3')?.idle ?? 0) >= 1);
    secret.publish('v1', a, true);
    await eventually('only v1', () => secret.held().join() === 'v1');
    expect(pool.generations().get('v1')).toEqual({ total: 5, idle: 5, busy: 0 });
    await pool.end();
  });

  it('is not confused by a connection that is released twice', async () => {
    const { pool, secret } = createPool({ connectionLimit: 2 });
    const [first, second] = await borrowAll(pool, 2);
    second?.release();
    secret.publish('v2', b);
    await eventually('a replacement is owed', () => pool.generations().get('v2')?.idle === 2);
    first?.release();
    first?.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    first?.release();
    expect(total(pool)).toBe(2);
    const again = await borrowAll(pool, 2);
    expect(new Set(again).size).toBe(2);
    for (const one of again) one.release();
    await pool.end();
  });

  it('retries a replacement that failed until the roll is done, and meanwhile serves on', async () => {
    const proxy = await startRefusingProxy(server);
    const { pool, secret } = createPool({ port: proxy.port, connectionLimit: 3 });
    await fill(pool, 3);
    proxy.refuse = true;
    secret.publish('v2', b);
    await eventually('two attempts failed', () => proxy.refused >= 2);
    expect(await whoAmI(pool)).toBe('roll_a');
    expect(total(pool)).toBe(3);
    proxy.refuse = false;
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.generations().get('v2')?.idle).toBe(3);
    expect(secret.reported).toEqual([]);
    await pool.end();
    await proxy.stop();
  });

  it('keeps working connections when the current version is refused, and replaces them once it is not', async () => {
    const { pool, secret } = createPool({ connectionLimit: 2 });
    await fill(pool, 2);
    secret.publish('v2', { ...b, password: 'not the password yet' });
    await eventually('an attempt was refused', () => secret.reported.length > 0);
    expect(secret.reported).toMatchObject([{ versionId: 'v2', kind: 'authentication', code: '1045' }]);
    expect(await whoAmI(pool)).toBe('roll_a');
    await setPassword(server, 'roll_b', 'not the password yet');
    await eventually('only v2', () => secret.held().join() === 'v2');
    await setPassword(server, 'roll_b', b.password);
    await pool.end();
  });

  it('runs the warm-up on replacements before they are handed in, and does not mind when it fails or loses the connection', async () => {
    const warmed: (number | null)[] = [];
    let lost = 0;
    const { pool, secret } = createPool({
      connectionLimit: 2,
      warmUp: async (connection) => {
        const rows = await rowsOf(connection, 'SELECT CONNECTION_ID() AS id');
        if (lost === 0) {
          lost += 1;
          const ended = new Promise((resolve) => connection.once('end', resolve));
          await settled(connection.promise().query(`KILL CONNECTION ${connection.threadId}`));
          await ended;
          return;
        }
        warmed.push(rows[0]?.['id'] as number);
        throw new Error('warm-up went wrong');
      },
    });
    await fill(pool, 2);
    expect(warmed).toEqual([]);
    secret.publish('v2', b);
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(lost).toBe(1);
    const connections = await borrowAll(pool, 2);
    expect(connections.map(({ threadId }) => threadId).toSorted()).toEqual(warmed.toSorted());
    for (const connection of connections) connection.release();
    await pool.end();
  });
});
