import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import type { StoreDriver } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { DataSource, type DataSourceOptions, type Logger } from 'typeorm';
import { sqlStore, type SqlStoreOptions } from '../src/sql-store.js';
import { eventually, FaultyNetwork, freeze, Heard, put } from './store-faults.js';
import { everyCall, expectEverythingWorks, expectRefusals } from './store-outage.js';

type MariadbOptions = Extract<DataSourceOptions, { type: 'mysql' | 'mariadb' }>;

const CONNECTIONS = 2;

let mariadb: MariadbServer;
let tables = 0;
const cleanUp: (() => unknown)[] = [];

const newTable = (): string => `my_store_${tables++}`;

function source(own: Partial<MariadbOptions> = {}): DataSource {
  const { host, port, database, admin } = mariadb;
  const options: MariadbOptions = { type: 'mariadb', host, port, database, ...admin };
  return new DataSource({ ...options, ...own });
}

async function opened(dataSource: DataSource, options: SqlStoreOptions = {}): Promise<StoreDriver> {
  const store = sqlStore(dataSource, { table: newTable(), pollIntervalMs: 20, ...options });
  cleanUp.push(() => store.close());
  await store.open();
  return store;
}

const patient = (table: string): SqlStoreOptions => ({ table, answerWithinMs: 500, connections: CONNECTIONS });

/** How many sessions there are besides the one that asks. */
const sessions = async (): Promise<number> => (await mariadb.query('SHOW PROCESSLIST')).length - 1;

describeWithMariadb('a store on MariaDB', () => {
  beforeAll(async () => {
    mariadb = await startMariadb();
  });

  afterAll(() => mariadb.stop());

  afterEach(async () => {
    for (const clean of cleanUp.splice(0).toReversed()) await clean();
  });

  it('keeps out of the way of the application’s own DataSource', async () => {
    const dataSource = source({ poolSize: 1 });
    await dataSource.initialize();
    cleanUp.push(() => dataSource.destroy());
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    const store = await opened(dataSource);
    expect(await put(store, 'a')).toBe(1);
    await runner.rollbackTransaction();
    await runner.release();
    await store.close();
    expect(dataSource.isInitialized).toBe(true);
    await eventually('no session but the application’s', async () => (await sessions()) === 1);
  });

  it('may find an application with its own ways with rows, numbers and transactions', async () => {
    await mariadb.query(
      'SET GLOBAL init_connect = "SET autocommit = 0, sql_mode = \'ANSI_QUOTES,NO_BACKSLASH_ESCAPES\'"',
    );
    cleanUp.push(() => mariadb.query('SET GLOBAL init_connect = ""'));
    const { host, port, database } = mariadb;
    await mariadb.query(`CREATE USER IF NOT EXISTS 'plain'@'%' IDENTIFIED BY 'plain-password'`);
    await mariadb.query(`GRANT ALL ON ${database}.* TO 'plain'@'%'`);
    const dataSource = new DataSource({
      type: 'mysql',
      host,
      port,
      database: 'elsewhere',
      replication: {
        master: { host, port, database, username: 'plain', password: 'plain-password' },
        slaves: [{ host, port: 1, database, username: 'nobody', password: 'nobody' }],
      },
      supportBigNumbers: false,
      bigNumberStrings: false,
      dateStrings: true,
      charset: 'latin1',
    });
    const store = await opened(dataSource);
    const other = await opened(source());
    const keys = ["it's", 'a\\b', '?', ':a', '"', '--', ';'];
    for (const key of keys) expect(await put(store, key)).toBeGreaterThan(0);
    expect((await store.list({ prefix: '', limit: 10 })).map((entry) => entry.key)).toEqual(keys.toSorted());
    expect(await store.revision()).toBe(keys.length);
    expect(await other.revision()).toBe(0);
    expect((await store.get("it's"))?.value).toEqual(Buffer.from('value'));
  });

  it('tells of the commits of others with their keys, and of removals by a hint without', async () => {
    const table = newTable();
    const [here, there] = [await opened(source(), { table }), await opened(source(), { table })];
    const heard = new Heard(here, ['secret/']);
    await put(there, 'instance/1');
    await put(there, 'secret/A');
    await heard.of('secret/A');
    expect(heard.hints).toEqual([{ keys: ['secret/A'] }]);
    heard.forget();
    await there.commit({ conditions: [], writes: [{ key: 'secret/A', value: null }] });
    await heard.everything();
    heard.forget();
    await put(there, 'secret/B');
    await heard.of('secret/B');
    expect(heard.hints).toEqual([{ keys: ['secret/B'] }]);
    expect((await here.list({ prefix: '', limit: 10 })).map((entry) => entry.key)).toEqual(['instance/1', 'secret/B']);
  });

  it('takes values as large as they come, many in one commit', async () => {
    const store = await opened(source());
    const value = Buffer.alloc(1_048_576, 0x27);
    const writes = Array.from({ length: 5 }, (_, index) => ({ key: `large/${index}`, value }));
    expect(await store.commit({ conditions: [], writes })).toBe(1);
    const entries = await store.list({ prefix: 'large/', limit: 10 });
    expect(entries.map((entry) => Buffer.compare(entry.value, value))).toEqual([0, 0, 0, 0, 0]);
  });

  it('is not seen in the application’s SQL log, nor quoted in errors', async () => {
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
    const table = newTable();
    const store = await opened(source({ logging: 'all', logger }), { table });
    await put(store, 'a', 'canary-of-the-log');
    await mariadb.query(`ALTER TABLE ${table} ADD CHECK (length(value) < 20)`);
    const failure: unknown = await put(store, 'a', 'canary-of-the-mariadb-test').catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/CONSTRAINT/) });
    expect(inspect([failure, logged], { depth: 20, showHidden: true })).not.toMatch(
      /canary|63616e617279|my_store.*X'/i,
    );
    expect(await put(store, 'b', 'short')).toBe(2);
  });

  it('says what is wrong: credentials, rights, a table that is gone or not its own', async () => {
    const fails = async (dataSource: DataSource, options: SqlStoreOptions, message: RegExp): Promise<void> => {
      await expect(opened(dataSource, options)).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringMatching(message),
      });
    };
    await fails(source({ port: 1 }), {}, /could not be reached: .*ECONNREFUSED/);
    await fails(source({ password: 'wrong-password' }), {}, /could not log in/);
    await mariadb.query(`CREATE TABLE not_ours (id int)`);
    await fails(source(), { table: 'not_ours' }, /ascii_bin/);
    await mariadb.query(
      'CREATE TABLE no_transactions (`key` varchar(512) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, value blob, revision bigint) ENGINE = MyISAM',
    );
    await fails(source(), { table: 'no_transactions' }, /InnoDB/);
    await mariadb.query(`CREATE USER 'reader'@'%' IDENTIFIED BY 'reader-password'`);
    await mariadb.query(`GRANT SELECT ON ${mariadb.database}.* TO 'reader'@'%'`);
    await fails(source({ username: 'reader', password: 'reader-password' }), {}, /grant its user/);
    const store = await opened(source(), { table: 'vanishing' });
    await mariadb.query('DROP TABLE vanishing');
    await expect(store.get('a')).rejects.toMatchObject({ message: expect.stringMatching(/does not find its table/) });
  });

  it('refuses a server that acknowledges what it has not written', async () => {
    await mariadb.query('SET GLOBAL innodb_flush_log_at_trx_commit = 0');
    cleanUp.push(() => mariadb.query('SET GLOBAL innodb_flush_log_at_trx_commit = 1'));
    await expect(opened(source())).rejects.toMatchObject({
      message: expect.stringMatching(/set innodb_flush_log_at_trx_commit to 1/),
    });
  });

  it('keeps a deadlock out of the caller’s sight', async () => {
    const table = newTable();
    const store = await opened(source(), { table });
    await mariadb.query(`CREATE TABLE ${table}_tries (id int AUTO_INCREMENT PRIMARY KEY) ENGINE = MyISAM`);
    // What a trigger writes into MyISAM stays when its transaction is undone: it fails the first time only.
    await mariadb.query(
      `CREATE TRIGGER ${table}_conflict BEFORE INSERT ON ${table} FOR EACH ROW
       BEGIN
         INSERT INTO ${table}_tries () VALUES ();
         IF (SELECT count(*) FROM ${table}_tries) = 1 THEN
           SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found';
         END IF;
       END`,
    );
    expect(await put(store, 'a')).toBe(1);
    expect(await store.get('a')).toMatchObject({ revision: 1 });
  });

  it('rides out a frozen server', async () => {
    const table = newTable();
    const store = await opened(source(), patient(table));
    const heard = new Heard(store, ['secret/']);
    await put(store, 'secret/A');
    const thaw = await freeze(mariadb.pid);
    cleanUp.push(thaw);
    await expectRefusals(store);
    heard.forget();
    thaw();
    await expectEverythingWorks(store, heard, () => opened(source(), { table }));
    await eventually('no connection left over', async () => (await sessions()) <= CONNECTIONS);
  });

  it('can be closed while its server is frozen', async () => {
    const store = await opened(source(), patient(newTable()));
    void new Heard(store);
    const thaw = await freeze(mariadb.pid);
    cleanUp.push(thaw);
    const calls = everyCall(store);
    await store.close();
    for (const result of await Promise.allSettled(calls)) expect(result.status).toBe('rejected');
    thaw();
    await eventually('no connection', async () => (await sessions()) === 0);
  });

  it('rides out a network that loses everything, and leaves connections that died without a word', async () => {
    const network = await FaultyNetwork.to(mariadb);
    cleanUp.push(() => network.close());
    const table = newTable();
    const store = await opened(source({ port: network.port }), patient(table));
    const heard = new Heard(store, ['secret/']);
    await put(store, 'secret/A');
    network.lose();
    await expectRefusals(store);
    heard.forget();
    network.restore();
    await expectEverythingWorks(store, heard, () => opened(source(), { table }));
    await eventually('no connection left over', async () => (await sessions()) <= CONNECTIONS);
  });

  it('rides out a server that nobody reaches', async () => {
    const network = await FaultyNetwork.to(mariadb);
    cleanUp.push(() => network.close());
    const table = newTable();
    const store = await opened(source({ port: network.port }), patient(table));
    const heard = new Heard(store, ['secret/']);
    const accept = await network.refuse();
    await expectRefusals(store);
    heard.forget();
    await accept();
    await expectEverythingWorks(store, heard, () => opened(source(), { table }));
  });

  it('rides out the end of its sessions', async () => {
    const table = newTable();
    const store = await opened(source(), patient(table));
    await put(store, 'secret/A');
    for (const { Id } of await mariadb.query<{ Id: number }>('SHOW PROCESSLIST')) {
      await mariadb.query(`KILL ${Id}`).catch(() => undefined);
    }
    await eventually('a commit', async () => (await put(store, 'secret/B').catch(() => undefined)) !== undefined);
    expect(await store.get('secret/B')).toMatchObject({ revision: 2 });
  });

  it('does not wait for a process that vanished within its commit', async () => {
    const network = await FaultyNetwork.to(mariadb);
    cleanUp.push(() => network.close());
    const table = newTable();
    // Long enough for a busy machine to see it wait, and the other one waits longer than that.
    const vanishing = await opened(source({ port: network.port }), { table, answerWithinMs: 4000 });
    const other = await opened(source(), { table, answerWithinMs: 20_000 });
    const holder = source();
    await holder.initialize();
    cleanUp.push(() => holder.destroy());
    const runner = holder.createQueryRunner();
    await runner.startTransaction();
    await runner.query(`SELECT * FROM ${table} FOR UPDATE`);
    const commit = put(vanishing, 'a');
    const rejected = expect(commit).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await eventually('a commit that waits for the row', async () => {
      const rows = await mariadb.query(`SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'`);
      return rows.length === 1;
    });
    network.lose();
    await runner.rollbackTransaction();
    await runner.release();
    expect(await put(other, 'b')).toBe(1);
    await rejected;
    expect(await other.get('a')).toBeUndefined();
  });
});
