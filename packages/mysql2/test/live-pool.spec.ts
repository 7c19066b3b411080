import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { isSecretsError } from '@nestjs-secrets/core';
import mysql from 'mysql2';
import promises from 'mysql2/promise.js';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { LiveMysqlPool } from '../src/pool/index.js';
import {
  borrow,
  borrowAll,
  createPool,
  createUsers,
  eventually,
  fill,
  firstCredentials,
  HandMadeSecret,
  rowsOf,
  sessionsOf,
  setPassword,
  settled,
  whoAmI,
} from './live-pool-fixture.js';

const everything = {
  depth: 20,
  showHidden: true,
  getters: true,
  maxArrayLength: null,
  maxStringLength: null,
} as const;

describeWithMariadb('LiveMysqlPool', () => {
  let server: MariadbServer;
  const a = firstCredentials('app_a');
  const b = firstCredentials('app_b');

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'app_a', 'app_b');
    await server.query(`CREATE TABLE ${server.database}.items (id int PRIMARY KEY, name text)`);
  });
  afterAll(() => server.stop());

  it('is a mysql2 pool that logs in with the secret, for callbacks', async () => {
    const { pool } = createPool(server, a);
    const asMysql: mysql.Pool = pool;
    expect(asMysql).toBeInstanceOf((mysql as unknown as { Pool: new () => unknown }).Pool);
    const rows = await new Promise((resolve, reject) => {
      pool.query('SELECT ? AS one', [1], (error, result) => (error ? reject(error) : resolve(result)));
    });
    expect(rows).toEqual([{ one: 1 }]);
    const prepared = await new Promise((resolve, reject) => {
      pool.execute('SELECT ? AS two', ['2'], (error, result) => (error ? reject(error) : resolve(result)));
    });
    expect(prepared).toEqual([{ two: '2' }]);
    const streamed: unknown[] = [];
    for await (const row of pool.query('SELECT 3 AS three').stream()) streamed.push(row);
    expect(streamed).toEqual([{ three: 3 }]);
    expect(pool.format('SELECT ?', ['x'])).toBe(`SELECT 'x'`);
    expect(pool.escape(`o'clock`)).toBe(`'o\\'clock'`);
    expect(await whoAmI(pool)).toBe('app_a');
    await new Promise<void>((resolve) => pool.end(() => resolve()));
    expect(pool.generations().size).toBe(0);
  });

  it('gives promises through promise(), for a borrowed connection too', async () => {
    const { pool } = createPool(server, a);
    const promised = pool.promise();
    expect(promised).toBeInstanceOf((promises as unknown as { PromisePool: new () => unknown }).PromisePool);
    expect((await promised.execute('SELECT ? AS one', ['1']))[0]).toEqual([{ one: '1' }]);
    const connection = await promised.getConnection();
    await connection.beginTransaction();
    await connection.query('INSERT INTO items VALUES (1, ?)', ['one']);
    await connection.rollback();
    const statement = await connection.prepare('SELECT ? AS two');
    expect((await statement.execute([2]))[0]).toEqual([{ two: 2 }]);
    promised.releaseConnection(connection);
    expect((await promised.query('SELECT * FROM items'))[0]).toEqual([]);
    expect(pool.generations().get('v1')).toEqual({ total: 1, idle: 1, busy: 0 });
    await promised.end();
  });

  it('keeps to the limits and tells of what it does as mysql2 does', async () => {
    const { pool } = createPool(server, a, { connectionLimit: 1, queueLimit: 1 });
    const events: string[] = [];
    for (const event of ['connection', 'acquire', 'enqueue', 'release']) pool.on(event, () => events.push(event));
    const connection = await borrow(pool);
    const waiting = borrow(pool);
    expect(await settled(borrow(pool))).toMatchObject({ reason: { message: 'Queue limit reached.' } });
    connection.release();
    connection.release();
    const next = await waiting;
    expect(next).toBe(connection);
    pool.releaseConnection(next);
    expect(events).toEqual(['connection', 'acquire', 'enqueue', 'release', 'acquire', 'release']);
    expect(pool.generations().get('v1')).toEqual({ total: 1, idle: 1, busy: 0 });
    await pool.end();

    const impatient = createPool(server, a, { connectionLimit: 1, waitForConnections: false });
    const only = await borrow(impatient.pool);
    expect(await settled(borrow(impatient.pool))).toMatchObject({ reason: { message: 'No connections available.' } });
    only.release();
    await impatient.pool.end();
  });

  it('serves waiters when connections are destroyed or break, and forgets idle ones that break', async () => {
    const { pool, secret } = createPool(server, a, { connectionLimit: 1 });
    const first = await borrow(pool);
    const waiting = borrow(pool);
    first.destroy();
    const second = await waiting;
    expect(second).not.toBe(first);
    let returned = 0;
    pool.on('release', () => (returned += 1));
    const next = borrow(pool);
    const broken = settled(second.promise().query('SELECT SLEEP(60)'));
    await server.query(`KILL CONNECTION ${second.threadId}`);
    expect(await broken).toMatchObject({ status: 'rejected' });
    second.release();
    const third = await next;
    expect(returned).toBe(0);
    third.release();
    await server.query(`KILL CONNECTION ${third.threadId}`);
    await eventually('the idle one is gone', () => secret.held().length === 0);
    expect(await whoAmI(pool)).toBe('app_a');
    await pool.end();
  });

  it('closes what idles beyond maxIdle, and resets connections where it is told to', async () => {
    const { pool } = createPool(server, a, { connectionLimit: 3, maxIdle: 1, resetOnRelease: true });
    expect(pool.config.maxIdle).toBe(1);
    const [first, ...others] = await borrowAll(pool, 3);
    await first?.promise().query('SET @mine = 7');
    first?.release();
    const again = await borrow(pool);
    expect(again).toBe(first);
    expect(await rowsOf(again, 'SELECT @mine AS mine')).toEqual([{ mine: null }]);
    for (const one of [again, ...others]) one.release();
    await eventually('one is left', () => pool.generations().get('v1')?.total === 1);
    expect(await whoAmI(pool)).toBe('app_a');
    await pool.end();

    const forgetful = createPool(server, a, { connectionLimit: 3, maxIdle: 2, idleTimeout: 10 });
    await fill(forgetful.pool, 2);
    await eventually('none is left', () => forgetful.pool.generations().size === 0);
    await forgetful.pool.end();
  });

  it('opens new connections with the newest version, user and password of the same one (I3)', async () => {
    const { pool, secret } = createPool(server, a);
    const held = await borrow(pool);
    // The server greets before the credentials are read: the secret changes in between.
    const opening = borrow(pool);
    secret.publish('v2', b);
    const next = await borrow(pool);
    expect(await whoAmI(await opening)).toBe('app_a');
    expect(await whoAmI(next)).toBe('app_b');
    for (const one of [held, await opening, next]) one.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    await pool.end();
    expect(secret.reported).toEqual([]);
  });

  it.each([
    ['uri', (at: string) => ({ uri: `mysql://other:canary-in-url@${at}` })],
    ['user and password', () => ({ user: 'other', password: 'canary-in-url' })],
    ['password1', () => ({ user: 'other', password1: 'canary-in-url' })],
  ])('lets no credentials from %s win over the secret, nor keeps them', async (_where, configure) => {
    const config = configure(`${server.host}:${server.port}/${server.database}?connectionLimit=3`);
    const { pool } = createPool(server, a, { charset: 'utf8mb4', ...config });
    expect(await whoAmI(pool)).toBe('app_a');
    expect(inspect(pool, everything)).not.toContain('canary-in-url');
    expect(pool.config.connectionLimit).toBe('uri' in config ? 3 : 10);
    await pool.end();
  });

  it('says when a uri cannot be read, without showing it', () => {
    const make = (): LiveMysqlPool => new LiveMysqlPool(new HandMadeSecret('v1', a), { uri: 'mysql://u:canary@[/x' });
    expect(make).toThrow(expect.objectContaining({ code: 'LIVE_POOL_CONFIG_INVALID' }));
    try {
      make();
    } catch (error) {
      expect(inspect(error, everything)).not.toContain('canary');
    }
  });

  it('shows no password: pool, connections, and the error of a refused log-in (I7)', async () => {
    const canary = 'canary-password-7f3a';
    await createUsers(server, 'canary');
    await setPassword(server, 'canary', canary);
    const { pool } = createPool(server, { username: 'canary', password: canary });
    const connection = await borrow(pool);
    expect(inspect(connection, everything)).not.toContain(canary);
    expect(inspect(pool, everything)).not.toContain(canary);
    await connection.promise().changeUser({ database: server.database });
    expect(await whoAmI(connection)).toBe('canary');
    expect(inspect(connection, everything)).not.toContain(canary);

    await setPassword(server, 'canary', 'another');
    const refused = await settled(borrow(pool));
    expect(refused).toMatchObject({ status: 'rejected', reason: { errno: 1045 } });
    expect(inspect(refused, everything)).not.toContain(canary);
    connection.release();
    await pool.end();
  });

  it('fails each caller with one clear error while the secret has no usable value, and works again after', async () => {
    const { pool, secret } = createPool(server, JSON.parse('{"user":"app_a"}'), { connectionLimit: 1 });
    const results = await Promise.allSettled([whoAmI(pool), whoAmI(pool), borrow(pool)]);
    for (const result of results) {
      expect(result.status === 'rejected' && isSecretsError(result.reason, 'LIVE_POOL_CREDENTIALS_INVALID')).toBe(true);
    }
    secret.publish('v2', a);
    expect(await whoAmI(pool)).toBe('app_a');
    await pool.end();
    expect(secret.held()).toEqual([]);
  });

  it('reports its generations, and as a consumer which versions it holds until their sockets have closed', async () => {
    const { pool, secret } = createPool(server, a);
    expect([...secret.consumers].map((consumer) => consumer.label)).toEqual([
      `mysql2 pool ${server.database}@127.0.0.1:${server.port}`,
    ]);
    expect(secret.held()).toEqual([]);
    const opening = borrow(pool);
    expect(secret.held()).toEqual(['v1']);
    const connection = await opening;
    expect([...pool.generations()]).toEqual([['v1', { total: 1, idle: 0, busy: 1 }]]);
    connection.release();
    expect([...pool.generations()]).toEqual([['v1', { total: 1, idle: 1, busy: 0 }]]);

    const updates = secret.updates;
    secret.publish('v2', b);
    expect(secret.held()).toContain('v1');
    await eventually('v1 drained', () => !secret.held().includes('v1'));
    await eventually('the server has noticed', async () => (await sessionsOf(server, 'app_a')) === 0);
    expect(secret.updates).toBeGreaterThanOrEqual(updates + 2);
    await pool.end();
    expect(secret.consumers.size).toBe(0);
  });
});
