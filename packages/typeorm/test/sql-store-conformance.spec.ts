import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { storeDriverConformance, type StoreDriverHarness } from '@nestjs-secrets/testing';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { DataSource as DataSource03 } from 'typeorm-0.3';
import { sqliteStore, sqlStore } from '../src/sql-store.js';

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

function conformance(name: string, createStore: StoreDriverHarness['createStore']): void {
  describe(name, () => {
    for (const { name, run } of storeDriverConformance({ shared: true, createStore })) it(name, run);
  });
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

  conformance(`sqlStore on postgres, ${version}`, async () => {
    const { host, port, database, admin } = postgres;
    const table = `store_${stores++}`;
    return {
      connect: () =>
        sqlStore(new Source({ type: 'postgres', host, port, database, ...admin, poolSize: 3 }), {
          table,
          pollIntervalMs: 20,
        }),
      dispose: async () => void (await postgres.query(`DROP TABLE IF EXISTS ${table}`)),
    };
  });
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
    conformance(`sqlStore on ${type}, ${version}`, async () => {
      const { host, port, database, admin } = mariadb;
      const table = `store_${stores++}`;
      return {
        connect: () => sqlStore(new Source({ type, host, port, database, ...admin }), { table, pollIntervalMs: 20 }),
        dispose: async () => void (await mariadb.query(`DROP TABLE IF EXISTS ${table}`)),
      };
    });
  }
});
