import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isSecretsError } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import { LivePool, livePgModule } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret, settled } from './live-pool-fixture.js';

describe('LivePool', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'app_a', 'app_b');
  });
  afterAll(() => server.stop());

  const whoAmI = async (pool: pg.Pool): Promise<string | undefined> =>
    (await pool.query<{ name: string }>('SELECT current_user AS name')).rows[0]?.name;

  it('is a pg.Pool that logs in with the secret, in promise and in callback style', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), target);
    expect(pool).toBeInstanceOf(pg.Pool);
    expect(await whoAmI(pool)).toBe('app_a');

    const client = await pool.connect();
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    client.release();
    expect(() => client.release()).toThrow('already been released');

    const rows = await new Promise((resolve, reject) => {
      pool.connect((error, borrowed, release) => {
        if (borrowed === undefined) {
          reject(error);
          return;
        }
        borrowed.query('SELECT 2 AS two').then((result) => {
          release();
          resolve(result.rows);
        }, reject);
      });
    });
    expect(rows).toEqual([{ two: 2 }]);
    await new Promise<void>((resolve) => pool.end(resolve));
    expect(pool.totalCount).toBe(0);
  });

  it('outlives the end of a session that is checked out, whoever listens to it', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), target);
    const client = await pool.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const ended = new Promise((resolve) => client.once('end', resolve));
    await server.query('SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
    await ended;
    await expect(client.query('SELECT 1')).rejects.toThrow(/connection/);
    client.release(true);
    expect(await whoAmI(pool)).toBe('app_a');
    await pool.end();
  });

  it('serves one callback function that asks for several connections', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), { ...target, max: 1 });
    let served = 0;
    const serve = (_error: Error | undefined, _client: unknown, release: () => void): void => {
      served += 1;
      release();
    };
    for (let count = 0; count < 5; count += 1) pool.connect(serve);
    await eventually('all five served', () => served === 5);
    await pool.end();
  });

  it('opens new connections with the newest version, user and password of the same one (I3)', async () => {
    const secret = new HandMadeSecret('v1', firstCredentials('app_a'));
    const pool = new LivePool(secret, target);
    expect(await whoAmI(pool)).toBe('app_a');
    const held = await pool.connect();
    secret.publish('v2', firstCredentials('app_b'));
    const next = await pool.connect();
    expect((await next.query<{ name: string }>('SELECT current_user AS name')).rows[0]?.name).toBe('app_b');
    next.release();
    held.release();
    await pool.end();
    expect(server.log()).not.toContain('password authentication failed');
  });

  it.each([
    ['connectionString', (at: string) => ({ connectionString: `postgres://other:canary-in-url@${at}` })],
    [
      'connectionString with parameters',
      (at: string) => ({ connectionString: `postgres://${at}?user=other&password=canary-in-url` }),
    ],
    ['user and password', () => ({ ...target, user: 'other', password: 'canary-in-url' })],
  ])('lets no credentials from %s win over the secret, nor keeps them', async (_where, configure) => {
    const config = configure(`${server.host}:${server.port}/${server.database}`);
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), {
      ...config,
      application_name: 'from-config',
    });
    expect(await whoAmI(pool)).toBe('app_a');
    expect((await pool.query('SHOW application_name')).rows).toEqual([{ application_name: 'from-config' }]);
    expect(inspect(pool, { depth: 12, showHidden: true, maxArrayLength: null })).not.toContain('canary-in-url');
    expect(pool.options).not.toHaveProperty('user');
    expect(pool.options).not.toHaveProperty('password');
    expect(pool.options).not.toHaveProperty('connectionString');
    await pool.end();
  });

  it('keeps what else a connection string says', async () => {
    const pool = new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), {
      connectionString: `postgres://${server.host}:${server.port}/${server.database}?application_name=from-url&options=-c%20work_mem%3D5MB`,
    });
    const { rows } = await pool.query(
      `SELECT current_setting('application_name') AS name, current_setting('work_mem') AS memory`,
    );
    expect(rows).toEqual([{ name: 'from-url', memory: '5MB' }]);
    await pool.end();
  });

  it('says when a connection string cannot be read, without showing it', () => {
    const make = (): LivePool =>
      new LivePool(new HandMadeSecret('v1', firstCredentials('app_a')), {
        connectionString: 'postgres://u:canary@[/x',
      });
    expect(make).toThrow(expect.objectContaining({ code: 'LIVE_POOL_CONFIG_INVALID' }));
    try {
      make();
    } catch (error) {
      expect(inspect(error, { depth: 12, showHidden: true })).not.toContain('canary');
    }
  });

  it('shows no password: pool, clients, their JSON, and the error of a refused log-in (I7)', async () => {
    const canary = 'canary-password-7f3a';
    await server.query(`CREATE ROLE canary LOGIN PASSWORD '${canary}'`);
    const secret = new HandMadeSecret('v1', { username: 'canary', password: canary });
    const pool = new LivePool(secret, target);
    const client = await pool.connect();
    const everything = {
      depth: 20,
      showHidden: true,
      getters: true,
      maxArrayLength: null,
      maxStringLength: null,
    } as const;
    expect(inspect(client, everything)).not.toContain(canary);
    expect(inspect(pool, everything)).not.toContain(canary);
    expect(JSON.stringify(pool.options)).not.toContain(canary);
    client.release();

    await server.query(`ALTER ROLE canary PASSWORD 'another'`);
    pool.on('error', () => undefined);
    const held = await pool.connect();
    const refused = await settled(pool.connect());
    expect(refused.status).toBe('rejected');
    expect(inspect(refused, everything)).not.toContain(canary);
    held.release();
    await pool.end();
  });

  it('does not fall back to PGUSER and PGPASSWORD', async () => {
    process.env['PGPASSWORD'] = server.admin.password;
    try {
      const pool = new LivePool(new HandMadeSecret('v1', { username: server.admin.username, password: '' }), target);
      const refused = await settled(pool.query('SELECT 1'));
      expect(refused.status).toBe('rejected');
      await pool.end();
    } finally {
      delete process.env['PGPASSWORD'];
    }
  });

  it('fails each caller with one clear error while the secret has no usable value, and works again after', async () => {
    const secret = new HandMadeSecret('v1', JSON.parse('{"user":"app_a"}'));
    const pool = new LivePool(secret, { ...target, max: 1 });
    const results = await Promise.allSettled([pool.query('SELECT 1'), pool.query('SELECT 1'), pool.connect()]);
    for (const result of results) {
      expect(result.status === 'rejected' && isSecretsError(result.reason, 'LIVE_POOL_CREDENTIALS_INVALID')).toBe(true);
    }
    secret.publish('v2', firstCredentials('app_a'));
    expect(await whoAmI(pool)).toBe('app_a');
    await pool.end();
    expect(secret.held()).toEqual([]);
  });

  it('reports its generations, and as a consumer which versions it holds until their sockets have closed', async () => {
    const secret = new HandMadeSecret('v1', firstCredentials('app_a'));
    const pool = new LivePool(secret, target);
    expect([...secret.consumers].map((consumer) => consumer.label)).toEqual([
      `pg pool postgres@127.0.0.1:${server.port}`,
    ]);
    expect(secret.held()).toEqual([]);

    const opening = pool.connect();
    expect(secret.held()).toEqual(['v1']);
    const client = await opening;
    expect([...pool.generations()]).toEqual([['v1', { total: 1, idle: 0, busy: 1 }]]);
    client.release();
    expect([...pool.generations()]).toEqual([['v1', { total: 1, idle: 1, busy: 0 }]]);

    const updates = secret.updates;
    secret.publish('v2', firstCredentials('app_b'));
    expect(secret.held()).toContain('v1');
    await eventually('v1 drained', () => !secret.held().includes('v1'));
    const { rows } = await pool.query(`SELECT count(*)::int AS left FROM pg_stat_activity WHERE usename = 'app_a'`);
    expect(rows).toEqual([{ left: 0 }]);
    expect(secret.updates).toBeGreaterThanOrEqual(updates + 2);
    await pool.end();
    expect(secret.consumers.size).toBe(0);
  });

  describe('livePgModule', () => {
    it('is pg with pools on the secret, whatever credentials their configuration carries', async () => {
      const live = livePgModule(new HandMadeSecret('v1', firstCredentials('app_a')));
      expect(live.types).toBe(pg.types);
      expect(live.defaults).toBe(pg.defaults);
      expect('native' in live).toBe(false);
      const pool = new live.Pool({ ...target, user: 'other', password: 'wrong', max: 3 });
      expect(pool).toBeInstanceOf(pg.Pool);
      expect(pool.options.max).toBe(3);
      expect(await whoAmI(pool)).toBe('app_a');
      await pool.end();
    });
  });
});
