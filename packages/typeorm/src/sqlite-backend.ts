import { access } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import {
  Deadline,
  StoreOptionsError,
  StoreUnavailableError,
  type BareError,
  type KeyRange,
  type StoreChanges,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import type { DataSource, DataSourceOptions } from 'typeorm';
import { judgeBatch } from './commit-batch.js';
import { sparingTurns } from './event-loop-turns.js';
import { quotedTable, STORE_ROW, type SqlBackend } from './sql-backend.js';

export type SqliteOptions = Extract<DataSourceOptions, { type: 'better-sqlite3' }>;

/** The part of a better-sqlite3 connection this backend uses. */
interface SqliteConnection {
  readonly inTransaction: boolean;
  pragma(source: string, options?: { simple: boolean }): unknown;
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  transaction<A, R>(body: (argument: A) => R): { immediate(argument: A): R };
  close(): unknown;
}

interface SqliteStatement {
  get(...parameters: unknown[]): unknown;
  all(...parameters: unknown[]): unknown[];
  run(...parameters: unknown[]): unknown;
}

type Statements = ReturnType<typeof prepareStatements>;

/**
 * A store in a SQLite file, written ahead and synced in each commit (https://sqlite.org/pragma.html#pragma_synchronous).
 *
 * It works on a connection of its own, with the application's options but without its entities: TypeORM has one connection for a whole
 * SQLite DataSource, and a commit there would become part of whatever transaction the application has open, and be rolled back with it.
 */
export class SqliteBackend implements SqlBackend {
  readonly name = 'sql (better-sqlite3)';
  readonly gather = sparingTurns();
  readonly #table: string;
  #dataSource: DataSource | undefined;
  #connection: SqliteConnection | undefined;
  #statements: Statements | undefined;

  constructor(
    private readonly Source: typeof DataSource,
    private readonly options: SqliteOptions,
    table: string,
    /** How long a call waits for another process that writes to the same file, in milliseconds. */
    private readonly busyLimitMs: number,
  ) {
    this.#table = quotedTable(table);
    if (table.includes('.')) throw new StoreOptionsError(`${table}: a SQLite table has no schema; leave it out.`);
    if (options.database === '' || options.database.startsWith(':memory:')) {
      throw new StoreOptionsError(
        'A SQLite database in memory lasts no longer than its connection: use memoryStore() for that.',
      );
    }
  }

  async open(): Promise<void> {
    const folder = path.dirname(path.resolve(this.options.database));
    await access(folder).catch(() => {
      throw new StoreUnavailableError(
        this.name,
        `cannot be opened: there is no folder ${folder}. Create it, or choose another path.`,
      );
    });
    await patiently(this.busyLimitMs, () => this.#connect());
  }

  async close(): Promise<void> {
    const dataSource = this.#dataSource;
    this.#dataSource = undefined;
    this.#statements = undefined;
    this.#connection = undefined;
    await dataSource?.destroy();
  }

  read(keys: readonly string[]): Promise<StoreEntry[]> {
    return patiently(this.busyLimitMs, () =>
      keys.flatMap((key) => (this.#open.get.get(key) as StoreEntry | undefined) ?? []),
    );
  }

  list({ from, after, until, limit }: KeyRange): Promise<StoreEntry[]> {
    return readPatiently(this.busyLimitMs, () => {
      const { listFrom, listAfter } = this.#open;
      return (after < from ? listFrom.all(from, until, limit) : listAfter.all(after, until, limit)) as StoreEntry[];
    });
  }

  revision(): Promise<number> {
    return readPatiently(this.busyLimitMs, () => this.#revisionOf(STORE_ROW));
  }

  async changesSince(): Promise<StoreChanges> {
    return { revision: await this.revision() };
  }

  transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    return patiently(this.busyLimitMs, () => {
      const { begin, commit, rollBack } = this.#open;
      begin.run();
      try {
        const outcomes = this.#judgeAndWrite(commits);
        commit.run();
        return outcomes;
      } catch (error) {
        // SQLite has ended some transactions by itself.
        if (this.#connection?.inTransaction === true) rollBack.run();
        throw error;
      }
    });
  }

  explain(error: BareError): string {
    const code = String(error.code);
    const file = this.options.database;
    if (error.name === 'DriverPackageNotInstalledError')
      return 'needs the package better-sqlite3: npm install better-sqlite3.';
    if (code.startsWith('SQLITE_NOTADB'))
      return `cannot be opened: ${file} is not a SQLite database. Choose another path.`;
    if (code.startsWith('SQLITE_CORRUPT')) return `is damaged: restore ${file} from a backup.`;
    if (code.startsWith('SQLITE_READONLY')) return `cannot write to ${file}: make the file and its folder writable.`;
    if (code.startsWith('SQLITE_CANTOPEN'))
      return `cannot open ${file}: is it a file, and may this process read and write it?`;
    if (code.startsWith('SQLITE_FULL')) return `cannot write to ${file}: the disk is full.`;
    if (isBusy(error)) return `is locked: another process kept writing to ${file} for ${this.busyLimitMs} ms.`;
    return `did not do its work on ${file}: ${error.message}`;
  }

  async #connect(): Promise<void> {
    let opened: SqliteConnection | undefined;
    const theirs = this.options.prepareDatabase;
    const dataSource = new this.Source({
      ...this.options,
      entities: [],
      subscribers: [],
      migrations: [],
      migrationsRun: false,
      synchronize: false,
      dropSchema: false,
      cache: false,
      // Neither statements nor their parameters belong in the application's SQL log.
      logging: false,
      // SQLite would wait inside the call and hold up the whole process; `patiently` waits outside.
      timeout: 0,
      prepareDatabase: async (connection: SqliteConnection) => {
        opened = connection;
        await theirs?.(connection);
        connection.pragma('synchronous = FULL');
        // Checkpoints sync twice; with fewer of them a commit costs less. The write-ahead file grows to 16 MB.
        connection.pragma('wal_autocheckpoint = 4000');
      },
      enableWAL: true,
    });
    try {
      await dataSource.initialize();
    } catch (error) {
      // TypeORM forgets a connection that it could open but not set up.
      opened?.close();
      throw error;
    }
    try {
      if (opened === undefined) throw new Error('TypeORM did not call prepareDatabase.');
      this.#statements = this.#setUp(opened);
      this.#connection = opened;
      this.#dataSource = dataSource;
    } catch (error) {
      await dataSource.destroy();
      throw error;
    }
  }

  #setUp(connection: SqliteConnection): Statements {
    if (connection.pragma('journal_mode', { simple: true }) !== 'wal') {
      throw new StoreUnavailableError(
        this.name,
        `cannot write ahead on ${this.options.database}: keep the file on a local disk, and writable.`,
      );
    }
    const create = connection.transaction(() =>
      connection.exec(
        `CREATE TABLE IF NOT EXISTS ${this.#table} (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, revision INTEGER NOT NULL);
         INSERT OR IGNORE INTO ${this.#table} (key, value, revision) VALUES ('${STORE_ROW}', x'', 0);`,
      ),
    );
    create.immediate(undefined);
    return prepareStatements(connection, this.#table);
  }

  #judgeAndWrite(commits: readonly StoreCommit[]): readonly (number | undefined)[] {
    const before = this.#revisionOf(STORE_ROW);
    const { outcomes, writes, revision } = judgeBatch(commits, before, (key) => this.#revisionOf(key));
    for (const write of writes) {
      if (write.value === null) this.#open.remove.run(write.key);
      else this.#open.put.run(write.key, write.value, write.revision);
    }
    if (revision !== before) this.#open.put.run(STORE_ROW, NO_BYTES, revision);
    return outcomes;
  }

  #revisionOf(key: string): number {
    return (this.#open.revision.get(key) as { revision: number } | undefined)?.revision ?? 0;
  }

  get #open(): Statements {
    if (this.#statements === undefined) throw new Error('The connection is closed.');
    return this.#statements;
  }
}

const NO_BYTES = Buffer.alloc(0);

function prepareStatements(connection: SqliteConnection, table: string) {
  // Of two lower bounds SQLite seeks only one, and steps over everything up to the other.
  const list = (begins: '>=' | '>'): SqliteStatement =>
    connection.prepare(
      `SELECT key, value, revision FROM ${table} WHERE key ${begins} ? AND key < ? ORDER BY key LIMIT ?`,
    );
  return {
    get: connection.prepare(`SELECT key, value, revision FROM ${table} WHERE key = ?`),
    listFrom: list('>='),
    listAfter: list('>'),
    revision: connection.prepare(`SELECT revision FROM ${table} WHERE key = ?`),
    put: connection.prepare(
      `INSERT INTO ${table} (key, value, revision) VALUES (?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
    ),
    remove: connection.prepare(`DELETE FROM ${table} WHERE key = ?`),
    begin: connection.prepare('BEGIN IMMEDIATE'),
    commit: connection.prepare('COMMIT'),
    rollBack: connection.prepare('ROLLBACK'),
  };
}

/** Leaves the event loop a turn before each read: SQLite reads within the call, and a long run of reads must not hold up everything else. */
async function readPatiently<R>(limitMs: number, read: () => R): Promise<R> {
  await nextTurn();
  return patiently(limitMs, read);
}

/** Does `work` again for as long as another process has the file locked, up to the limit. */
async function patiently<R>(limitMs: number, work: () => R | Promise<R>): Promise<R> {
  const deadline = new Deadline(limitMs);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || deadline.isOver) throw error;
      await pause(2 + Math.random() * 20);
    }
  }
}

function isBusy(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  return /^SQLITE_(BUSY|LOCKED)/.test(code);
}
