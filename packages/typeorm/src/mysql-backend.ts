import {
  StoreUnavailableError,
  type BareError,
  type KeyRange,
  type StoreChanges,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import type { DataSource } from 'typeorm';
import { judgeBatch, type RowWrite } from './commit-batch.js';
import {
  MysqlSource,
  serverError,
  USUAL_PATIENCE,
  type MysqlOptions,
  type MysqlQuery,
  type MysqlRow,
} from './mysql-source.js';
import { MysqlStatements } from './mysql-statements.js';
import { tableParts, type SqlBackend, type SqlLimits } from './sql-backend.js';

const ATTEMPTS = 3;
/** A deadlock, and a row that changed after MariaDB's snapshot: the transaction is undone, and asks for another try. */
const TRY_AGAIN = [1213, 1020];
/** More keys than this are told as "everything". */
const MOST_CHANGES = 1000;
const NO_VALUE = Buffer.alloc(0);

/**
 * A store in an InnoDB table on MySQL or MariaDB. Every transaction that writes first locks the row with the store's revision, under READ
 * COMMITTED, where each statement sees all that was committed before it; so writers come one after the other, as on PostgreSQL. Nothing
 * here tells of changes: an index finds what has been written since a revision.
 */
export class MysqlBackend implements SqlBackend {
  readonly name: string;
  readonly #source: MysqlSource;
  readonly #sql: MysqlStatements;
  readonly #idleLimitSeconds: number;

  constructor(Source: typeof DataSource, options: MysqlOptions, table: string, limits: SqlLimits) {
    this.name = `sql (${options.type})`;
    this.#sql = new MysqlStatements(tableParts(table));
    this.#source = new MysqlSource(Source, options, limits);
    this.#idleLimitSeconds = Math.ceil(limits.answerWithinMs / 1000);
  }

  async open(): Promise<void> {
    await this.#source.open();
    try {
      await this.#tryAgain((query) => this.#createTable(query));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#source.close();
  }

  async read(keys: readonly string[]): Promise<StoreEntry[]> {
    const rows = await this.#source.connected((query) => query(this.#sql.read(keys)));
    return rows.map(toEntry);
  }

  async list(range: KeyRange): Promise<StoreEntry[]> {
    const rows = await this.#source.connected((query) => query(this.#sql.list(range)));
    return rows.map(toEntry);
  }

  revision(): Promise<number> {
    return this.#source.connected(async (query) => this.#storeRevision(await query(this.#sql.revision)));
  }

  changesSince(since: number): Promise<StoreChanges> {
    return this.#source.connected(async (query) => {
      const revision = this.#storeRevision(await query(this.#sql.revision));
      if (revision === since) return { revision, keys: [] };
      const keys = (await query(this.#sql.changed(since, MOST_CHANGES + 1))).map((row) => row.key);
      const isAll = revision > since && keys.length <= MOST_CHANGES && !keys.includes(this.#sql.removalsRow);
      return isAll ? { revision, keys } : { revision };
    });
  }

  transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    return this.#tryAgain((query) => this.#transactOnce(query, commits));
  }

  explain(error: BareError): string {
    const code = String(error.code);
    const table = this.#sql.table;
    if (error.name === 'DriverPackageNotInstalledError') return 'needs the package mysql2: npm install mysql2.';
    if (/^ER_(ACCESS_DENIED_ERROR|ACCESS_DENIED_NO_PASSWORD|NOT_SUPPORTED_AUTH_MODE)/.test(code)) {
      return `could not log in (${error.message}): check the credentials of its DataSource.`;
    }
    if (/^ER_(TABLEACCESS|COLUMNACCESS|DBACCESS|SPECIFIC_ACCESS)_DENIED/.test(code)) {
      return `was refused by its database (${error.message}): grant its user SELECT, INSERT, UPDATE and DELETE on ${table}.`;
    }
    if (/^ER_(NO_SUCH_TABLE|BAD_FIELD_ERROR)$/.test(code)) {
      return `does not find its table as it made it (${error.message}): choose another table, or restore ${table}.`;
    }
    if (code === 'ER_BINLOG_STMT_MODE_AND_ROW_ENGINE') {
      return 'cannot write under READ COMMITTED with binlog_format=STATEMENT: set the server to ROW or MIXED.';
    }
    if (code.startsWith('ER_')) return `did not do its work: ${error.message} (${code})`;
    return `could not be reached: ${error.message || code}`;
  }

  async #transactOnce(query: MysqlQuery, commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    const before = this.#storeRevision(
      await query(
        // A process that stops within the transaction, or vanishes with its network, must not keep the row that all the others wait for.
        `SET SESSION wait_timeout = ${this.#idleLimitSeconds}`,
        'SET TRANSACTION ISOLATION LEVEL READ COMMITTED',
        'START TRANSACTION READ WRITE',
        `${this.#sql.revision} FOR UPDATE`,
      ),
    );
    const stored = await this.#revisionsOf(query, commits);
    const { outcomes, writes, revision } = judgeBatch(commits, before, (key) => stored.get(key) ?? 0);
    if (revision !== before) await this.#write(query, writes, revision);
    await query('COMMIT', USUAL_PATIENCE);
    return outcomes;
  }

  async #revisionsOf(query: MysqlQuery, commits: readonly StoreCommit[]): Promise<Map<string, number>> {
    const keys = new Set(commits.flatMap((commit) => commit.conditions.map((condition) => condition.key)));
    if (keys.size === 0) return new Map();
    const rows = await query(this.#sql.revisionsOf([...keys]));
    return new Map(rows.map((row) => [row.key, Number(row.revision)]));
  }

  async #write(query: MysqlQuery, writes: readonly RowWrite[], revision: number): Promise<void> {
    const removed = writes.filter((write) => write.value === null).map((write) => write.key);
    const put: RowWrite[] = [
      ...writes.filter((write) => write.value !== null),
      { key: this.#sql.storeRow, value: NO_VALUE, revision },
    ];
    if (removed.length > 0) {
      await query(this.#sql.remove(removed));
      // The index finds what is there, not what has gone.
      put.push({ key: this.#sql.removalsRow, value: NO_VALUE, revision });
    }
    for (const statement of this.#sql.put(put)) await query(statement);
  }

  async #createTable(query: MysqlQuery): Promise<void> {
    // Looked up first, since a user that may not create tables can still use one made for it.
    const described = await query<{ engine: string; collation: string | null }>(this.#sql.describe);
    if (described.length === 0) await query(this.#sql.create);
    for (const { engine, collation } of described) {
      if (engine.toLowerCase() === 'innodb' && collation === 'ascii_bin') continue;
      this.#fail(
        `needs ${this.#sql.table} in InnoDB with keys in ascii_bin: remove it, so that it is made anew, or choose another table.`,
      );
    }
    const [durability] = await query<{ flush: string | number }>(
      'SELECT @@GLOBAL.innodb_flush_log_at_trx_commit AS flush',
    );
    if (Number(durability?.flush) === 0) {
      this.#fail(
        'would lose what it has acknowledged when its server is killed: set innodb_flush_log_at_trx_commit to 1.',
      );
    }
    await query(this.#sql.firstRow);
  }

  async #tryAgain<R>(work: (query: MysqlQuery) => Promise<R>): Promise<R> {
    const deadline = this.#source.deadline();
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#source.connected(work, deadline);
      } catch (error) {
        if (attempt === ATTEMPTS || deadline.isOver || !TRY_AGAIN.includes(serverError(error) ?? 0)) throw error;
      }
    }
  }

  #storeRevision([row]: readonly MysqlRow[]): number {
    if (row !== undefined) return Number(row.revision);
    return this.#fail(
      `has lost a row of ${this.#sql.table} that it cannot do without: restore the table from a backup.`,
    );
  }

  #fail(reason: string): never {
    throw new StoreUnavailableError(this.name, reason);
  }
}

function toEntry(row: MysqlRow): StoreEntry {
  return { key: row.key, value: row.value, revision: Number(row.revision) };
}
