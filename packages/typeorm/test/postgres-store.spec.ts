import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import type { StoreDriver } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource, type DataSourceOptions, type Logger } from 'typeorm';
import { PostgresBackend } from '../src/postgres-backend.js';
import { sqlStore, type SqlStoreOptions } from '../src/sql-store.js';

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

let postgres: PostgresServer;
let tables = 0;
const sources: DataSource[] = [];
const stores: StoreDriver[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
});

afterAll(() => postgres.stop());

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  for (const source of sources.splice(0)) if (source.isInitialized) await source.destroy();
});

function options(): PostgresOptions {
  const { host, port, database, admin } = postgres;
  return { type: 'postgres', host, port, database, ...admin };
}

function source(own: Partial<PostgresOptions> = {}): DataSource {
  const made = new DataSource({ ...options(), ...own });
  sources.push(made);
  return made;
}

async function opened(dataSource: DataSource, own: SqlStoreOptions = {}): Promise<StoreDriver> {
  const store = sqlStore(dataSource, { table: `pg_store_${tables++}`, ...own });
  stores.push(store);
  await store.open();
  return store;
}

const put = (store: StoreDriver, key: string, value = 'value'): Promise<number | undefined> =>
  store.commit({ conditions: [], writes: [{ key, value: Buffer.from(value) }] });

const sessionsOf = async (name: string): Promise<number> => {
  const rows = await postgres.query('SELECT 1 FROM pg_stat_activity WHERE application_name = $1', [name]);
  return rows.length;
};

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('not within 10 s');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('the DataSource under a store', () => {
  it('is left open when somebody else opened it', async () => {
    const dataSource = source();
    await dataSource.initialize();
    const store = await opened(dataSource);
    await put(store, 'a');
    await store.close();
    expect(dataSource.isInitialized).toBe(true);
    expect(await dataSource.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('need not be open: the store connects for itself, and leaves nothing behind', async () => {
    const dataSource = source({ applicationName: 'store of its own' });
    const store = await opened(dataSource);
    expect(await sessionsOf('store of its own')).toBeGreaterThan(0);
    await store.close();
    expect(dataSource.isInitialized).toBe(false);
    await eventually(async () => (await sessionsOf('store of its own')) === 0);
  });

  it('lends one connection for all commits, however many wait', async () => {
    const store = await opened(source({ poolSize: 1 }));
    const commits = Array.from({ length: 50 }, (_, index) => put(store, `k/${index}`));
    expect(await store.list({ prefix: '', limit: 10 })).toBeDefined();
    expect(new Set(await Promise.all(commits)).size).toBe(50);
    expect(await store.revision()).toBe(50);
  });

  it('may have its own ways with numbers, isolation and schemas', async () => {
    await postgres.query('CREATE SCHEMA IF NOT EXISTS vault');
    const dataSource = source({
      parseInt8: true,
      schema: 'vault',
      extra: { options: '-c default_transaction_isolation=serializable -c default_transaction_read_only=on' },
    });
    const store = sqlStore(dataSource, { table: 'in_schema' });
    stores.push(store);
    await postgres.query(
      `CREATE TABLE vault.in_schema (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, revision bigint NOT NULL);
       INSERT INTO vault.in_schema VALUES ('', '', 41)`,
    );
    await store.open();
    expect(await put(store, 'a')).toBe(42);
    expect((await store.get('a'))?.revision).toBe(42);
  });

  it('does not see values in its SQL log', async () => {
    const logged: unknown[] = [];
    const log = (...parts: unknown[]): void => void logged.push(parts);
    const logger: Logger = {
      logQuery: log,
      logQueryError: log,
      logQuerySlow: log,
      logSchemaBuild: log,
      logMigration: log,
      log,
    };
    const store = await opened(source({ logging: 'all', logger }));
    await put(store, 'a', 'canary-of-the-log');
    await store.get('a');
    expect(inspect(logged, { depth: 20 })).not.toMatch(/canary|63616e617279|pg_store/);
  });
});

describe('a database that does not do its work', () => {
  it('gives an error without the value, also where the server quotes the row', async () => {
    const store = await opened(source(), { table: 'narrow' });
    await postgres.query('ALTER TABLE narrow ADD CHECK (length(value) < 10)');
    const failure: unknown = await put(store, 'a', 'canary-of-the-postgres-test').catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/narrow/) });
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toMatch(/canary|63616e617279|Y2FuYXJ5/);
    expect(await put(store, 'b', 'short')).toBe(1);
  });

  it('says so when nobody listens', async () => {
    const store = sqlStore(source({ port: 1 }));
    stores.push(store);
    await expect(store.open()).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(/could not be reached: .*ECONNREFUSED/),
    });
  });

  it('says so when the log-in is refused', async () => {
    const store = sqlStore(source({ password: 'wrong-password-canary' }));
    stores.push(store);
    const failure: unknown = await store.open().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/could not log in/) });
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain('wrong-password-canary');
  });

  it('says what its role may not do', async () => {
    await postgres.query(`CREATE ROLE reader LOGIN PASSWORD 'reader-password'`);
    const first = await opened(source(), { table: 'granted' });
    await put(first, 'a');
    const reader = { username: 'reader', password: 'reader-password' };
    const refused = sqlStore(source(reader), { table: 'granted' });
    stores.push(refused);
    await expect(refused.open()).rejects.toMatchObject({
      message: expect.stringMatching(/grant its role the use of "granted"/),
    });
    await postgres.query('GRANT SELECT, INSERT, UPDATE, DELETE ON granted TO reader');
    const granted = await opened(source(reader), { table: 'granted' });
    expect(await put(granted, 'b')).toBe(2);
  });

  it('says what is missing when the table is gone or not ours', async () => {
    const store = await opened(source(), { table: 'vanishing' });
    await postgres.query('DROP TABLE vanishing');
    await expect(store.get('a')).rejects.toMatchObject({ message: expect.stringMatching(/does not find its table/) });
    await postgres.query('CREATE TABLE other_table (id integer)');
    const foreign = sqlStore(source(), { table: 'other_table' });
    stores.push(foreign);
    await expect(foreign.open()).rejects.toMatchObject({ message: expect.stringMatching(/choose another table/) });
  });

  it('survives the end of its sessions', async () => {
    const store = await opened(source({ applicationName: 'cut off', poolErrorHandler: () => undefined }));
    await put(store, 'a');
    await postgres.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut off'`);
    await eventually(async () => (await put(store, 'b').catch(() => undefined)) !== undefined);
    expect((await store.get('b'))?.revision).toBe(2);
  });

  it('gives up on a statement without an answer, and does not use its connection again', async () => {
    const limits = { answerWithinMs: 300, pollIntervalMs: 20, connections: 1 };
    const backend = new PostgresBackend(DataSource, options(), 'unanswered', limits);
    await backend.open();
    const holder = source();
    await holder.initialize();
    const runner = holder.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SELECT * FROM unanswered FOR UPDATE');
    const writes = [{ key: 'a', value: Buffer.from('value') }];
    await expect(backend.transact([{ conditions: [], writes }])).rejects.toThrow(/timeout/);
    expect(await backend.revision()).toBe(0);
    await runner.rollbackTransaction();
    await runner.release();
    expect(await backend.transact([{ conditions: [], writes }])).toEqual([1]);
    expect(await backend.read(['a'])).toMatchObject([{ revision: 1 }]);
    await backend.close();
  });

  it('keeps a transaction that PostgreSQL asks to try again out of the caller’s sight', async () => {
    const store = await opened(source(), { table: 'conflicting' });
    await postgres.query(
      `CREATE SEQUENCE conflicts;
       CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         IF nextval('conflicts') = 1 THEN RAISE EXCEPTION 'try again' USING ERRCODE = '40001'; END IF;
         RETURN NEW;
       END $$;
       CREATE TRIGGER conflict BEFORE INSERT OR UPDATE ON conflicting FOR EACH STATEMENT EXECUTE FUNCTION fail_once()`,
    );
    expect(await put(store, 'a')).toBe(1);
    expect((await store.get('a'))?.revision).toBe(1);
  });
});
