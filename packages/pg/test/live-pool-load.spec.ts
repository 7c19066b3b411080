import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret } from './live-pool-fixture.js';

const WORKERS = 16;
const MAX = 6;

describe('LivePool under load', () => {
  let server: PostgresServer;
  let admin: pg.Client;

  beforeAll(async () => {
    server = await startPostgres();
    const { host, port, database } = server;
    admin = new pg.Client({ host, port, database, user: server.admin.username, password: server.admin.password });
    await admin.connect();
    await createRoles(server, 'load_a', 'load_b', 'load_single');
    await server.query('CREATE TABLE writes (number int PRIMARY KEY); GRANT ALL ON writes TO PUBLIC');
    // The server refuses what is beyond max + 1, and says so in its log.
    await server.query(`CREATE DATABASE bounded CONNECTION LIMIT ${MAX + 1}`);
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

  function startLoad(pool: LivePool): Load {
    const failures: unknown[] = [];
    let number = 0;
    let committed = 0;
    let working = true;
    const transaction = async (): Promise<void> => {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        await client.query('INSERT INTO writes VALUES ($1)', [(number += 1)]);
        await client.query('SELECT pg_sleep(0.02)');
        await client.query('COMMIT');
        committed += 1;
      } finally {
        client.release();
      }
    };
    const workers = Array.from({ length: WORKERS }, async (_, index) => {
      for (let turn = index; working; turn += 1) {
        const work = turn % 8 === 0 ? transaction() : pool.query('SELECT $1::int AS number, pg_sleep(0.003)', [turn]);
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

  it('takes 50 rotations between two roles, the old one locked out each time, without a failure or a lost write', async () => {
    const secret = new HandMadeSecret('v0', firstCredentials('load_a'));
    const pool = new LivePool(secret, {
      host: server.host,
      port: server.port,
      database: server.database,
      max: MAX,
      replacement: { paceMs: 0 },
    });
    const load = startLoad(pool);
    for (let round = 1; round <= 50; round += 1) {
      const [role, last] = round % 2 === 1 ? ['load_b', 'load_a'] : ['load_a', 'load_b'];
      const next: DatabaseCredentials = { username: role, password: `password of round ${round}` };
      await admin.query(`ALTER ROLE ${role} LOGIN PASSWORD '${next.password}'`);
      secret.publish(`v${round}`, next);
      await eventually(`only v${round}`, () => secret.held().join() === `v${round}`);
      const { rows } = await admin.query(
        `SELECT count(*)::int AS left FROM pg_stat_activity WHERE usename = '${last}'`,
      );
      expect(rows).toEqual([{ left: 0 }]);
      await admin.query(`ALTER ROLE ${last} NOLOGIN`);
    }
    await load.stop();
    expect(load.failures).toEqual([]);
    expect(pool.waitingCount).toBe(0);
    expect(await server.query('SELECT count(*)::int AS stored FROM writes')).toEqual([{ stored: load.committed() }]);
    await pool.end();
  });

  it('rotates on and on without waiting for a roll to finish, and never needs more than one connection extra', async () => {
    const roles = [
      firstCredentials('load_single'),
      { ...firstCredentials('load_a'), password: 'a' },
      { ...firstCredentials('load_b'), password: 'b' },
    ];
    await server.query(`ALTER ROLE load_a LOGIN PASSWORD 'a'; ALTER ROLE load_b LOGIN PASSWORD 'b'`);
    const secret = new HandMadeSecret('v0', roles[0] ?? firstCredentials('load_single'));
    const pool = new LivePool(secret, { host: server.host, port: server.port, database: 'bounded', max: MAX });
    const failures: unknown[] = [];
    let working = true;
    const workers = Array.from({ length: WORKERS }, async () => {
      while (working) await pool.query('SELECT pg_sleep(0.002)').catch((error: unknown) => failures.push(error));
    });
    for (let round = 1; round <= 30; round += 1) {
      const id = `v${round}`;
      secret.publish(id, roles[round % 3] ?? firstCredentials('load_single'));
      await eventually(`${id} has arrived`, () => (pool.generations().get(id)?.total ?? 0) > 0);
    }
    await eventually('the last one has drained the others', () => secret.held().join() === 'v30');
    working = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(server.log()).not.toContain('too many connections for database');
    await pool.end();
  });
});
