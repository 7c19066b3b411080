import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { storeDriverConformance, type ConformanceStore, type StoreDriverHarness } from '@nestjs-secrets/testing';
import { FaultyLink } from 'nestjs-secrets-test/chaos/faulty-link';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { DataSource as DataSource03 } from 'typeorm-0.3';
import { sqliteStore, sqlStore } from '../src/sql-store.js';
import { eventually } from './store-faults.js';

// Two majors of TypeORM stand side by side here; an application has one, which is the one sqlStore's type speaks of.
const versions = [
  ['TypeORM 1.x', DataSource],
  ['TypeORM 0.3', DataSource03 as unknown as typeof DataSource],
] as const;

let folder = '';
let postgres: PostgresServer;
let stores = 0;

let mariadb: MariadbServer;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-sql-'));
  postgres = await startPostgres();
});

afterAll(async () => {
  await postgres.stop();
  await rm(folder, { recursive: true });
});

const newFile = (): string => path.join(folder, `store-${stores++}.sqlite`);

/** For a machine under load. */
const LIMIT_MS = 240_000;

function conformance(
  name: string,
  createStore: StoreDriverHarness['createStore'],
  faults: StoreDriverHarness['faults'] = [],
): void {
  describe(name, () => {
    for (const { name, run } of storeDriverConformance({ shared: true, faults, createStore })) it(name, run, LIMIT_MS);
  });
}

const patience = (willFail: boolean) => (willFail ? { answerWithinMs: 1500 } : {});

/** The way to a server on which `cutOff` works. */
async function linkTo(server: { readonly host: string; readonly port: number }): Promise<{
  readonly link: FaultyLink;
  readonly cutOff: NonNullable<ConformanceStore['cutOff']>;
}> {
  const link = await FaultyLink.to(server);
  const cutOff = async (how: 'refused' | 'silent') => {
    if (how === 'refused') link.refuse();
    else link.lose();
    return async () => link.mend();
  };
  return { link, cutOff };
}

/** When one of its processes dies like this, PostgreSQL ends all the others and recovers from its write-ahead log, by itself. */
async function crashPostgres(): Promise<() => Promise<void>> {
  const [backend] = await postgres.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1`,
  );
  process.kill(backend?.pid ?? 0, 'SIGKILL');
  return () => eventually('the server answers', () => postgres.query('SELECT 1').then(Boolean, () => false));
}

conformance('sqliteStore', async () => {
  const file = newFile();
  return { connect: () => sqliteStore({ path: file, pollIntervalMs: 20 }), dispose: async () => undefined };
});

for (const [version, Source] of versions) {
  conformance(`sqlStore on better-sqlite3, ${version}`, async () => {
    const database = newFile();
    return {
      connect: () => sqlStore(new Source({ type: 'better-sqlite3', database }), { pollIntervalMs: 20 }),
      dispose: async () => undefined,
    };
  });

  const onPostgres = async (willFail: boolean): Promise<ConformanceStore> => {
    const { database, admin } = postgres;
    const { link, cutOff } = await linkTo(postgres);
    const table = `store_${stores++}`;
    return {
      connect: () =>
        sqlStore(
          new Source({ type: 'postgres', host: '127.0.0.1', port: link.port, database, ...admin, poolSize: 3 }),
          {
            table,
            pollIntervalMs: 20,
            ...patience(willFail),
          },
        ),
      dispose: async () => {
        await link.close();
        await postgres.query(`DROP TABLE IF EXISTS ${table}`);
      },
      cutOff,
      crash: crashPostgres,
    };
  };
  conformance(`sqlStore on postgres, ${version}`, onPostgres, ['cut-off', 'crash']);
}

describeWithMariadb('with MariaDB', () => {
  beforeAll(async () => {
    mariadb = await startMariadb();
  });

  afterAll(() => mariadb.stop());

  // The server is the same under both names; TypeORM treats them differently.
  for (const [type, [version, Source]] of [
    ['mariadb', versions[0]],
    ['mysql', versions[1]],
  ] as const) {
    const onMariadb = async (willFail: boolean): Promise<ConformanceStore> => {
      const { database, admin } = mariadb;
      const { link, cutOff } = await linkTo(mariadb);
      const table = `store_${stores++}`;
      return {
        connect: () =>
          sqlStore(new Source({ type, host: '127.0.0.1', port: link.port, database, ...admin }), {
            table,
            pollIntervalMs: 20,
            ...patience(willFail),
          }),
        dispose: async () => {
          await link.close();
          await mariadb.query(`DROP TABLE IF EXISTS ${table}`);
        },
        cutOff,
        crash: async () => {
          await mariadb.kill();
          return () => mariadb.restart();
        },
      };
    };
    conformance(`sqlStore on ${type}, ${version}`, onMariadb, ['cut-off', 'crash']);
  }
});
