import { afterAll, beforeAll, expect, it } from '@jest/globals';
import mysql from 'mysql2/promise.js';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import type { LiveMysqlPool } from '../src/pool/index.js';
import { createPool, createUsers, eventually, firstCredentials, rowsOf } from './live-pool-fixture.js';

const WORKERS = 16;
const LIMIT = 6;

describeWithMariadb('LiveMysqlPool under load', () => {
  let server: MariadbServer;
  let admin: mysql.Connection;

  beforeAll(async () => {
    server = await startMariadb();
    const { host, port, database } = server;
    const { username: user, password } = server.admin;
    admin = await mysql.createConnection({ host, port, database, user, password });
    await createUsers(server, 'load_a', 'load_b', 'load_single');
    await admin.query('CREATE TABLE writes (number int PRIMARY KEY)');
  });
  afterAll(async () => {
    await admin.end();
    await server.stop();
  });

  interface Load {
    readonly failures: unknown[];
    readonly committed: () => number;
    stop(): Promise<void>;
  }

  function startLoad(pool: LiveMysqlPool): Load {
    const failures: unknown[] = [];
    let [number, committed, working] = [0, 0, true];
    const promised = pool.promise();
    const transaction = async (): Promise<void> => {
      const connection = await promised.getConnection();
      try {
        await connection.beginTransaction();
        await connection.execute('INSERT INTO writes VALUES (?)', [(number += 1)]);
        await connection.query('SELECT SLEEP(0.02)');
        await connection.commit();
        committed += 1;
      } finally {
        connection.release();
      }
    };
    const statement = (turn: number): Promise<unknown> =>
      turn % 2 === 0
        ? promised.query('SELECT ? AS number, SLEEP(0.003)', [turn])
        : promised.execute('SELECT ? AS number, SLEEP(0.003)', [turn]);
    const workers = Array.from({ length: WORKERS }, async (_, index) => {
      for (let turn = index; working; turn += 1) {
        const work = turn % 8 === 0 ? transaction() : statement(turn);
        await work.catch((error: unknown) => failures.push(error));
      }
    });
    return {
      failures,
      committed: () => committed,
      stop: async () => {
        working = false;
        await Promise.all(workers);
      },
    };
  }

  const stored = async (): Promise<unknown> =>
    (await admin.query<mysql.RowDataPacket[]>('SELECT COUNT(*) AS stored FROM writes'))[0][0]?.['stored'];

  it('takes 50 rotations between two users, the old one locked out each time, without a failure or a lost write', async () => {
    const { pool, secret } = createPool(server, firstCredentials('load_a'), {
      connectionLimit: LIMIT,
      replacement: { paceMs: 0 },
    });
    const load = startLoad(pool);
    for (let round = 1; round <= 50; round += 1) {
      const [user, last] = round % 2 === 1 ? ['load_b', 'load_a'] : ['load_a', 'load_b'];
      const next = { username: user, password: `password of round ${round}` };
      await admin.query(`ALTER USER '${user}'@'%' IDENTIFIED BY '${next.password}' ACCOUNT UNLOCK`);
      secret.publish(`v1.${round}`, next);
      await eventually(`only v1.${round}`, () => secret.held().join() === `v1.${round}`);
      await admin.query(`ALTER USER '${last}'@'%' ACCOUNT LOCK`);
    }
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(secret.reported).toEqual([]);
    expect(load.committed()).toBeGreaterThan(0);
    expect(await stored()).toBe(load.committed());
    await pool.end();
  });

  it('takes 30 changes of the password under a single user, each sent before anybody knows of it', async () => {
    await admin.query('DELETE FROM writes');
    const { pool, secret } = createPool(server, firstCredentials('load_single'), { connectionLimit: LIMIT });
    const load = startLoad(pool);
    for (let round = 1; round <= 30; round += 1) {
      const next = { username: 'load_single', password: `password of round ${round}` };
      secret.others = [secret.version(`v1.${round}`, next)];
      await admin.query(`ALTER USER 'load_single'@'%' IDENTIFIED BY '${next.password}'`);
      secret.publish(`v1.${round}`, next);
      await eventually(`v1.${round} has arrived`, () => (pool.generations().get(`v1.${round}`)?.total ?? 0) > 0);
    }
    await eventually('the last one has drained the others', () => secret.held().join() === 'v1.30');
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(await stored()).toBe(load.committed());
    await pool.end();
  });

  it('rotates on and on without waiting for a roll to finish, and never needs more than one connection extra', async () => {
    const users = [firstCredentials('many_a'), firstCredentials('many_b'), firstCredentials('many_c')] as const;
    await createUsers(server, ...users.map(({ username }) => username));
    const { pool, secret } = createPool(server, users[0], { connectionLimit: LIMIT });
    let [working, most] = [true, 0];
    pool.on('connection', () => {
      const open = [...pool.generations().values()].reduce((sum, generation) => sum + generation.total, 0);
      most = Math.max(most, open);
    });
    const failures: unknown[] = [];
    const workers = Array.from({ length: WORKERS }, async () => {
      while (working) await rowsOf(pool, 'SELECT SLEEP(0.002)').catch((error: unknown) => failures.push(error));
    });
    for (let round = 1; round <= 30; round += 1) {
      const id = `v1.${round}`;
      secret.publish(id, users[round % 3] ?? users[0]);
      await eventually(`${id} has arrived`, () => (pool.generations().get(id)?.total ?? 0) > 0);
    }
    await eventually('the last one has drained the others', () => secret.held().join() === 'v1.30');
    working = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(most).toBeLessThanOrEqual(LIMIT + 1);
    await pool.end();
  });
});
