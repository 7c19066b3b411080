import { StoreOptionsError, type StoreDriver } from '@nestjs-secrets/core';
import { DataSource } from 'typeorm';
import { MysqlBackend } from './mysql-backend.js';
import { PostgresBackend } from './postgres-backend.js';
import { DEFAULT_TABLE, type SqlLimits } from './sql-backend.js';
import { SqlStore } from './sql-store-driver.js';
import { SqliteBackend } from './sqlite-backend.js';

export interface SqlStoreOptions {
  /** `nestjs_secrets` by default; made when it is not there. On PostgreSQL and MySQL it may begin with a schema (database) and a dot. */
  readonly table?: string;
  /**
   * How often to look for commits of other processes while somebody watches, in milliseconds; 500 by default. PostgreSQL tells of itself,
   * and is asked only for as long as the session that listens is away.
   */
  readonly pollIntervalMs?: number;
  /**
   * After this time without an answer a call rejects with `STORE_UNAVAILABLE`, in milliseconds; 5000 by default. A commit that waits for the
   * one before it may take twice that. Also how long the database lets a process that has stopped hold up the commits of all others.
   */
  readonly answerWithinMs?: number;
  /** The most connections to use on PostgreSQL and MySQL, besides the one that listens; 3 by default. */
  readonly connections?: number;
}

export interface SqliteStoreOptions extends SqlStoreOptions {
  /** The database file; made when it is not there, in a folder that is. */
  readonly path: string;
}

/**
 * A store in one table of the database that a TypeORM DataSource speaks of: postgres, mysql, mariadb (both through mysql2) or
 * better-sqlite3. It connects for itself, with the options of the DataSource, and leaves the DataSource alone: an application that has used
 * up its pool, or is within a transaction, neither holds up the store nor takes its commits back.
 * @throws StoreOptionsError for another kind of database, SQLite in memory, or an option out of range.
 */
export function sqlStore(dataSource: DataSource, options: SqlStoreOptions = {}): StoreDriver {
  const { options: source } = dataSource;
  // The class of the DataSource at hand, since an application may have more than one version of TypeORM.
  const Source = dataSource.constructor as typeof DataSource;
  const table = options.table ?? DEFAULT_TABLE;
  const limits = checked(options);
  if (source.type === 'postgres') return new SqlStore(new PostgresBackend(Source, source, table, limits), limits);
  if (source.type === 'mysql' || source.type === 'mariadb') {
    return new SqlStore(new MysqlBackend(Source, source, table, limits), limits);
  }
  if (source.type === 'better-sqlite3') {
    return new SqlStore(new SqliteBackend(Source, source, table, limits.answerWithinMs), limits);
  }
  throw new StoreOptionsError(
    `sqlStore works with better-sqlite3, mariadb, mysql and postgres, not with ${source.type}.`,
  );
}

/**
 * The embedded default: a store in a SQLite file of its own, where what was committed survives kill -9 and loss of power. Several processes
 * of one machine may share the file. Needs the packages typeorm and better-sqlite3.
 * @throws StoreOptionsError for an option out of range.
 */
export function sqliteStore(options: SqliteStoreOptions): StoreDriver {
  const source = { type: 'better-sqlite3', database: options.path } as const;
  const limits = checked(options);
  const backend = new SqliteBackend(DataSource, source, options.table ?? DEFAULT_TABLE, limits.answerWithinMs);
  return new SqlStore(backend, limits);
}

function checked(options: SqlStoreOptions): SqlLimits {
  const { pollIntervalMs = 500, answerWithinMs = 5000, connections = 3 } = options;
  for (const [name, value] of Object.entries({ pollIntervalMs, answerWithinMs })) {
    if (!Number.isFinite(value) || value < 1) {
      throw new StoreOptionsError(`${name} is ${value}: use milliseconds, 1 or more.`);
    }
  }
  if (!Number.isInteger(connections) || connections < 1) {
    throw new StoreOptionsError(`connections is ${connections}: use a whole number, 1 or more.`);
  }
  return { pollIntervalMs, answerWithinMs: Math.ceil(answerWithinMs), connections };
}
