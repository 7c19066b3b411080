import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { startRefusingProxy } from 'nestjs-secrets-test/refusing-proxy';
import type pg from 'pg';
import { LivePool } from '../src/pool/index.js';
import type { LivePoolConfig } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret } from './live-pool-fixture.js';

describe('LivePool, rolling to a new version', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'roll_a', 'roll_b', 'roll_c');
  });
  afterAll(() => server.stop());

  const a = firstCredentials('roll_a');
  const b = firstCredentials('roll_b');
  const c = firstCredentials('roll_c');

  function createPool(config: LivePoolConfig = {}): { pool: LivePool; secret: HandMadeSecret } {
    const secret = new HandMadeSecret('v1', a);
    return { secret, pool: new LivePool(secret, { ...target, max: 5, ...config }) };
  }

  const borrow = (pool: LivePool, count: number): Promise<pg.PoolClient[]> =>
    Promise.all(Array.from({ length: count }, () => pool.connect()));

  async function fill(pool: LivePool, count: number): Promise<void> {
    for (const client of await borrow(pool, count)) client.release();
  }

  const backendOf = async (client: pg.ClientBase): Promise<number | undefined> =>
    (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid;

  it.each([1, 2] as const)(
    'replaces idle connections one for one, never fewer, never more than %i beyond them',
    async (concurrency) => {
      const { pool, secret } = createPool({ replacement: { concurrency } });
      await fill(pool, 5);
      const sizes = new Set<number>();
      for (const event of ['connect', 'release', 'remove'] as const) pool.on(event, () => sizes.add(pool.totalCount));
      secret.publish('v2', b);
      await eventually('only v2', () => secret.held().join() === 'v2');
      expect(pool.generations().get('v2')).toEqual({ total: 5, idle: 5, busy: 0 });
      expect(Math.min(...sizes)).toBe(5);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(5 + concurrency);
      await pool.end();
    },
  );

  it('opens nothing when it has nothing to replace', async () => {
    const { pool, secret } = createPool();
    let opened = 0;
    pool.on('connect', () => (opened += 1));
    secret.publish('v2', b);
    await pool.query('SELECT 1');
    expect(opened).toBe(1);
    expect(secret.held()).toEqual(['v2']);
    await pool.end();
  });

  it('keeps to what the server grants: max + 1 connections, with everybody busy and waiting', async () => {
    await server.query('CREATE DATABASE limited CONNECTION LIMIT 6');
    const { pool, secret } = createPool({ database: 'limited', replacement: { paceMs: 0 } });
    await fill(pool, 5);
    let working = true;
    let done = 0;
    const failures: unknown[] = [];
    const workers = Array.from({ length: 12 }, async () => {
      while (working) {
        await pool.query('SELECT pg_sleep(0.001)').then(
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
    // The server itself counts: it would have refused a seventh.
    expect(server.log()).not.toContain('too many connections for database');
    await pool.end();
  });

  it('lets a busy connection finish its transaction, and takes it out when it comes back', async () => {
    const { pool, secret } = createPool({ max: 2 });
    await fill(pool, 2);
    const client = await pool.connect();
    await client.query('BEGIN');
    secret.publish('v2', b);
    await eventually('the idle one replaced', () => pool.generations().get('v2')?.idle === 2);
    expect(pool.generations().get('v1')).toEqual({ total: 1, idle: 0, busy: 1 });
    expect((await client.query('SELECT current_user AS name')).rows).toEqual([{ name: 'roll_a' }]);
    await client.query('COMMIT');
    client.release();
    await eventually('v1 drained', () => secret.held().join() === 'v2');
    expect(pool.totalCount).toBe(2);
    await pool.end();
  });

  it('serves a waiter with the replacement while all others are busy', async () => {
    const { pool, secret } = createPool({ max: 2 });
    const busy = await borrow(pool, 2);
    const waiting = pool.connect();
    secret.publish('v2', b);
    const client = await waiting;
    expect((await client.query('SELECT current_user AS name')).rows).toEqual([{ name: 'roll_b' }]);
    expect(pool.totalCount).toBe(3);
    client.release();
    for (const one of busy) one.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.totalCount).toBe(2);
    await pool.end();
  });

  it('waits for connections that never come back without opening more than one replacement', async () => {
    const { pool, secret } = createPool({ max: 3 });
    const stuck = await borrow(pool, 3);
    let opened = 0;
    pool.on('connect', () => (opened += 1));
    secret.publish('v2', b);
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    secret.publish('v3', c);
    await eventually('aimed at v3', () => pool.generations().get('v3')?.idle === 1 && !secret.held().includes('v2'));
    expect(pool.totalCount).toBe(4);
    expect(opened).toBe(2);
    for (const client of stuck) client.release();
    await eventually('only v3', () => secret.held().join() === 'v3');
    expect(pool.totalCount).toBe(3);
    await pool.end();
  });

  it('takes a connection that broke for one that left', async () => {
    const { pool, secret } = createPool({ max: 2 });
    pool.on('error', () => undefined);
    const [first, second] = await borrow(pool, 2);
    if (first === undefined || second === undefined) throw new Error('not two clients');
    first.on('error', () => undefined);
    const pid = await backendOf(first);
    secret.publish('v2', b);
    await eventually('a replacement is there', () => pool.generations().get('v2')?.idle === 1);
    await server.query('SELECT pg_terminate_backend($1)', [pid]);
    await eventually('both replacements are there', () => pool.generations().get('v2')?.idle === 2);
    first.release(true);
    second.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.totalCount).toBe(2);
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

  it('never touches a connection taken for another after a double release', async () => {
    const { pool, secret } = createPool({ max: 2 });
    const [first, second] = await borrow(pool, 2);
    if (first === undefined || second === undefined) throw new Error('not two clients');
    second.release();
    secret.publish('v2', b);
    await eventually('a replacement is owed', () => pool.generations().get('v2')?.idle === 2);
    first.release();
    expect(() => first.release()).toThrow('already been released');
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.totalCount).toBe(2);
    await pool.end();
  });

  it('retries a replacement that failed until the roll is done, and meanwhile serves on', async () => {
    const proxy = await startRefusingProxy(server);
    const { pool, secret } = createPool({ port: proxy.port, max: 3 });
    await fill(pool, 3);
    proxy.refuse = true;
    secret.publish('v2', b);
    await eventually('two attempts failed', () => proxy.refused >= 2);
    expect((await pool.query('SELECT current_user AS name')).rows).toEqual([{ name: 'roll_a' }]);
    expect(pool.totalCount).toBe(3);
    proxy.refuse = false;
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.generations().get('v2')?.idle).toBe(3);
    await pool.end();
    await proxy.stop();
  });

  it('keeps working connections when the current version is refused, and replaces them once it is not', async () => {
    const { pool, secret } = createPool({ max: 2 });
    await fill(pool, 2);
    secret.publish('v2', { ...b, password: 'not the password yet' });
    await eventually('an attempt was refused', () =>
      server.log().includes('password authentication failed for user "roll_b"'),
    );
    expect((await pool.query('SELECT current_user AS name')).rows).toEqual([{ name: 'roll_a' }]);
    await server.query(`ALTER ROLE roll_b PASSWORD 'not the password yet'`);
    await eventually('only v2', () => secret.held().join() === 'v2');
    await server.query(`ALTER ROLE roll_b PASSWORD '${b.password}'`);
    await pool.end();
  });

  it('runs the warm-up on replacements before they are handed in, and does not mind when it fails or loses the connection', async () => {
    const warmed: (number | undefined)[] = [];
    let lost = 0;
    const { pool, secret } = createPool({
      max: 2,
      warmUp: async (client) => {
        const pid = await backendOf(client);
        if (lost === 0) {
          lost += 1;
          const ended = new Promise((resolve) => client.once('end', resolve));
          await server.query('SELECT pg_terminate_backend($1)', [pid]);
          await ended;
        }
        await client.query('SELECT 1');
        warmed.push(pid);
        throw new Error('warm-up went wrong');
      },
    });
    await fill(pool, 2);
    expect(warmed).toEqual([]);
    secret.publish('v2', b);
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(lost).toBe(1);
    const clients = await borrow(pool, 2);
    expect((await Promise.all(clients.map(backendOf))).toSorted()).toEqual(warmed.toSorted());
    for (const client of clients) client.release();
    await pool.end();
  });

  it('has the server plan recent statements on a replacement without running them', async () => {
    await server.query(
      'CREATE TABLE rehearsed (id int PRIMARY KEY); GRANT ALL ON rehearsed TO PUBLIC; CREATE SEQUENCE counted; GRANT ALL ON counted TO PUBLIC',
    );
    const { pool, secret } = createPool({ max: 1, query_timeout: 5000 });
    // pg-pool drops a connection whose query failed, so this one goes first.
    await pool.query({ text: 'SELECT id FROM no_longer_there WHERE id = $1', values: [1] }).catch(() => undefined);
    await pool.query('INSERT INTO rehearsed VALUES ($1)', [1]);
    await pool.query(`SELECT nextval('counted') WHERE $1`, [true]);
    const planned: string[] = [];
    pool.on('connect', (client) => {
      const { connection } = client as unknown as { connection: { parse: (statement: { text: string }) => void } };
      const parse = connection.parse.bind(connection);
      connection.parse = (statement) => {
        planned.push(statement.text);
        parse(statement);
      };
    });
    secret.publish('v2', b);
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(planned).toEqual([
      'SELECT id FROM no_longer_there WHERE id = $1',
      'INSERT INTO rehearsed VALUES ($1)',
      `SELECT nextval('counted') WHERE $1`,
    ]);
    expect(await server.query('SELECT id FROM rehearsed')).toEqual([{ id: 1 }]);
    expect(await server.query('SELECT last_value::int AS last FROM counted')).toEqual([{ last: 1 }]);
    await pool.end();
  });
});
