import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { access, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import type { StoreDriver } from '@nestjs-secrets/core';
import { DataSource } from 'typeorm';
import { sqliteStore, sqlStore } from '../src/sql-store.js';

let folder = '';
let file = '';
const stores: StoreDriver[] = [];

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-sqlite-'));
  file = path.join(folder, 'secrets.sqlite');
});

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  await rm(folder, { recursive: true });
});

function keep(store: StoreDriver): StoreDriver {
  stores.push(store);
  return store;
}

/** As much of a DataSource as can be had without its driver's package. */
const ofType = (type: string): DataSource => Object.assign(Object.create(DataSource.prototype), { options: { type } });

const put = (store: StoreDriver, key: string, value = 'value'): Promise<number | undefined> =>
  store.commit({ conditions: [], writes: [{ key, value: Buffer.from(value) }] });

const unavailable = (message: RegExp): object => ({
  code: 'STORE_UNAVAILABLE',
  message: expect.stringMatching(message),
});

describe('a file that cannot serve', () => {
  it('in a folder that is not there', async () => {
    const store = keep(sqliteStore({ path: path.join(folder, 'missing', 'secrets.sqlite') }));
    await expect(store.open()).rejects.toMatchObject(unavailable(/there is no folder .*missing\. Create it/));
    await expect(access(path.join(folder, 'missing'))).rejects.toThrow();
    await expect(store.get('a')).rejects.toMatchObject({ code: 'STORE_CLOSED' });
  });

  it('that is not a database', async () => {
    await writeFile(
      file,
      'a text file, long enough to be read as the header of a database, which it is not at all'.repeat(20),
    );
    const store = keep(sqliteStore({ path: file }));
    await expect(store.open()).rejects.toMatchObject(unavailable(/is not a SQLite database/));
  });

  it('that is a folder', async () => {
    await expect(keep(sqliteStore({ path: folder })).open()).rejects.toMatchObject(
      unavailable(/cannot open .*is it a file/),
    );
  });

  it('that may not be written', async () => {
    const writer = keep(sqliteStore({ path: file }));
    await writer.open();
    const store = keep(sqlStore(new DataSource({ type: 'better-sqlite3', database: file, readonly: true })));
    await expect(store.open()).rejects.toMatchObject(unavailable(/cannot write to .*writable/));
  });

  it('that is damaged', async () => {
    const writer = sqliteStore({ path: file });
    await writer.open();
    for (let index = 0; index < 50; index++) await put(writer, `key/${index}`, 'x'.repeat(1000));
    await writer.close();
    const handle = await open(file, 'r+');
    const { size } = await handle.stat();
    // The first page, with the schema, stays whole.
    await handle.write(Buffer.alloc(size - 4096, 0xa5), 0, size - 4096, 4096);
    await handle.close();
    const store = keep(sqliteStore({ path: file }));
    const failure: unknown = await store
      .open()
      .then(() => store.list({ prefix: '', limit: 1000 }))
      .catch((error: unknown) => error);
    expect(failure).toMatchObject(unavailable(/is damaged: restore .* from a backup/));
  });

  it('can be opened once it can serve', async () => {
    await writeFile(file, 'not a database'.repeat(100));
    const store = keep(sqliteStore({ path: file }));
    await expect(store.open()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await rm(file);
    await store.open();
    expect(await put(store, 'a')).toBe(1);
  });
});

describe('options that cannot serve', () => {
  it.each([
    ['a database in memory', () => sqliteStore({ path: ':memory:' }), /memoryStore/],
    ['a nameless temporary database', () => sqliteStore({ path: '' }), /memoryStore/],
    ['a table with a quote', () => sqliteStore({ path: 'x', table: 'a"b' }), /not a table name/],
    ['an empty table name', () => sqliteStore({ path: 'x', table: '' }), /not a table name/],
    ['a table with a schema', () => sqliteStore({ path: 'x', table: 'a.b' }), /no schema/],
    ['a poll interval of 0', () => sqliteStore({ path: 'x', pollIntervalMs: 0 }), /pollIntervalMs/],
    ['a limit of 0 for answers', () => sqliteStore({ path: 'x', answerWithinMs: 0 }), /answerWithinMs/],
    ['half a connection', () => sqliteStore({ path: 'x', connections: 0.5 }), /connections/],
    ['another database', () => sqlStore(ofType('oracle')), /mysql and postgres, not with oracle/],
  ])('%s', (_name, make, message) => {
    expect(make).toThrow(
      expect.objectContaining({ code: 'STORE_OPTIONS_INVALID', message: expect.stringMatching(message) }),
    );
  });
});

describe('next to an application on the same file', () => {
  it('a commit is not rolled back with a transaction of the application', async () => {
    const application = new DataSource({ type: 'better-sqlite3', database: file, enableWAL: true });
    await application.initialize();
    const store = keep(sqlStore(application));
    await store.open();
    const runner = application.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SELECT count(*) FROM nestjs_secrets');
    expect(await put(store, 'a')).toBe(1);
    await runner.rollbackTransaction();
    expect((await store.get('a'))?.revision).toBe(1);
    await store.close();
    expect(application.isInitialized).toBe(true);
    expect(await application.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await application.destroy();
  });

  it('a commit waits for another writer without holding up the process', async () => {
    const store = keep(sqliteStore({ path: file }));
    await store.open();
    const other = new DataSource({ type: 'better-sqlite3', database: file });
    await other.initialize();
    await other.query('BEGIN IMMEDIATE');
    let isDone = false;
    const commit = put(store, 'a').finally(() => (isDone = true));
    // The busy commit would never get here if it waited inside SQLite: the lock is given back by this very thread.
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(isDone).toBe(false);
    await other.query('ROLLBACK');
    await other.destroy();
    expect(await commit).toBe(1);
  });

  it('goes on counting where somebody removed the row with the revision of the store', async () => {
    const store = keep(sqliteStore({ path: file }));
    await store.open();
    await put(store, 'a');
    const other = new DataSource({ type: 'better-sqlite3', database: file });
    await other.initialize();
    await other.query(`DELETE FROM nestjs_secrets WHERE key = ''`);
    await other.destroy();
    // Two revisions that are alike would let a commit pass that stands on what another has changed since.
    const revisions = [await put(store, 'b', 'one'), await put(store, 'b', 'two'), await put(store, 'b', 'three')];
    expect(new Set(revisions).size).toBe(3);
    expect(await store.revision()).toBe(revisions.at(-1));
  });

  it('takes a table of another name', async () => {
    const store = keep(sqliteStore({ path: file, table: 'my_secrets' }));
    await store.open();
    await put(store, 'a');
    const reader = new DataSource({ type: 'better-sqlite3', database: file });
    await reader.initialize();
    expect(await reader.query('SELECT key FROM my_secrets ORDER BY key')).toHaveLength(2);
    await reader.destroy();
  });
});

describe('what a store leaves behind', () => {
  it('nothing open: the write-ahead log is gone with the last connection', async () => {
    const store = sqliteStore({ path: file });
    await store.open();
    await put(store, 'a');
    await access(`${file}-wal`);
    await store.close();
    await expect(access(`${file}-wal`)).rejects.toThrow();
    expect((await readFile(file)).subarray(0, 15).toString()).toBe('SQLite format 3');
  });

  it('nothing of a value in the error of a commit that failed', async () => {
    const store = keep(sqliteStore({ path: file }));
    await store.open();
    const other = new DataSource({ type: 'better-sqlite3', database: file });
    await other.initialize();
    await other.query('DROP TABLE nestjs_secrets');
    const failure: unknown = await put(store, 'a', 'canary-of-the-sqlite-test').catch((error: unknown) => error);
    await other.destroy();
    expect(failure).toMatchObject(unavailable(/no such table/));
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toMatch(/canary|63616e617279|Y2FuYXJ5/);
  });
});
