import { answerWithin, Deadline } from '@nestjs-secrets/core';
import type { DataSource, DataSourceOptions } from 'typeorm';
import { leaveUnopened } from './own-source.js';
import type { SqlLimits } from './sql-backend.js';
import { Turnstile } from './turnstile.js';

export type MysqlOptions = Extract<DataSourceOptions, { type: 'mysql' | 'mariadb' }>;

/** The part of a mysql2 connection the store uses. */
export interface MysqlConnection {
  query(
    query: { sql: string; timeout: number } & Record<string, unknown>,
    callback: (error: unknown, result: unknown) => void,
  ): unknown;
  destroy(): void;
}

export interface MysqlRow {
  readonly key: string;
  readonly value: Buffer;
  readonly revision: string | number;
}

/** Runs these statements in one round trip; the rows of the last. */
export type MysqlQuery = <R = MysqlRow>(...statements: readonly string[]) => Promise<R[]>;

/** How rows are to come, whatever the application prefers. */
const ROWS = { rowsAsArray: false, nestTables: false, typeCast: true, supportBigNumbers: true, bigNumberStrings: true };

/** The server is not, or no longer, the one that takes writes: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html */
const READ_ONLY = [1290, 1792, 1836];

/**
 * Connections for the store alone, to the primary that a DataSource speaks of. Whatever can be waited for has a limit: a place, a connection,
 * each answer.
 */
export class MysqlSource {
  readonly #dataSource: DataSource;
  readonly #places: Turnstile;
  readonly #prepared = new WeakSet<MysqlConnection>();

  constructor(
    Source: typeof DataSource,
    options: MysqlOptions,
    private readonly limits: SqlLimits,
  ) {
    this.#dataSource = dataSource(Source, options, limits);
    this.#places = new Turnstile(limits.connections);
  }

  async open(): Promise<void> {
    if (this.#dataSource.isInitialized) return;
    // TypeORM asks for the version without a limit of its own, and leaves its pool open when it gets none.
    const opening = this.#dataSource.initialize();
    try {
      await answerWithin(this.limits.answerWithinMs, 'connecting', opening, (late) => void late.destroy());
    } catch (error) {
      await leaveUnopened(this.#dataSource, this.limits.answerWithinMs);
      throw error;
    }
  }

  async close(): Promise<void> {
    if (!this.#dataSource.isInitialized) return;
    // A server that does not answer does not say farewell either; its connections have been asked to end by then.
    await answerWithin(this.limits.answerWithinMs, 'closing', this.#dataSource.destroy()).catch(() => undefined);
  }

  async connected<R>(work: (query: MysqlQuery) => Promise<R>, deadline = this.deadline()): Promise<R> {
    await this.#places.enter(deadline);
    const runner = this.#dataSource.createQueryRunner('master');
    const leave = (): void => {
      this.#places.leave();
      void runner.release();
    };
    const connecting = runner.connect() as Promise<MysqlConnection>;
    // The place stays taken for as long as the attempt does.
    connecting.catch(() => this.#places.leave());
    const connection = await answerWithin(deadline.leftMs, 'connecting', connecting, leave);
    const query: MysqlQuery = (...statements) => ask(connection, statements, deadline.leftMs);
    try {
      if (!this.#prepared.has(connection)) {
        // An application may have its servers begin a transaction with whatever comes first; reads would then see one moment for ever.
        const seconds = Math.ceil(this.limits.answerWithinMs / 1000);
        await query(
          `SET SESSION autocommit = 1, SESSION innodb_lock_wait_timeout = ${seconds}, @nestjs_secrets_wait = @@SESSION.wait_timeout`,
        );
        this.#prepared.add(connection);
      }
      return await work(query);
    } catch (error) {
      await leaveClean(connection, query, error);
      throw error;
    } finally {
      leave();
    }
  }

  deadline(): Deadline {
    return new Deadline(this.limits.answerWithinMs);
  }
}

/** Undoes what a transaction has set for itself: how long the server waits for the next statement. */
export const USUAL_PATIENCE = 'SET SESSION wait_timeout = @nestjs_secrets_wait';

/** The number of an error that the server has sent; undefined for one of the way to it. */
export function serverError(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('sqlState' in error) || !('errno' in error)) return undefined;
  return typeof error.errno === 'number' && typeof error.sqlState === 'string' ? error.errno : undefined;
}

function dataSource(Source: typeof DataSource, options: MysqlOptions, limits: SqlLimits): DataSource {
  const { replication, logger: _, ...rest } = options;
  const { answerWithinMs, connections } = limits;
  return new Source({
    ...rest,
    ...replication?.master,
    entities: [],
    subscribers: [],
    migrations: [],
    migrationsRun: false,
    synchronize: false,
    dropSchema: false,
    cache: false,
    // Neither statements nor what is in them belong in the application's SQL log.
    logging: false,
    multipleStatements: true,
    extra: {
      ...(rest.extra as object | undefined),
      connectionLimit: connections,
      waitForConnections: true,
      queueLimit: 0,
      connectTimeout: answerWithinMs,
      multipleStatements: true,
      namedPlaceholders: false,
      enableKeepAlive: true,
      keepAliveInitialDelay: answerWithinMs,
    },
  });
}

function ask<R>(connection: MysqlConnection, statements: readonly string[], timeout: number): Promise<R[]> {
  return new Promise((resolve, reject) => {
    connection.query({ ...ROWS, sql: statements.join('; '), timeout }, (error, result) => {
      if (error !== null && error !== undefined) {
        reject(error);
        return;
      }
      const last: unknown = statements.length > 1 && Array.isArray(result) ? result.at(-1) : result;
      resolve(Array.isArray(last) ? (last as R[]) : []);
    });
  });
}

/** Ends the transaction an error left behind, or the whole connection when the error did not come from the server, or the server is the wrong one. */
async function leaveClean(connection: MysqlConnection, query: MysqlQuery, error: unknown): Promise<void> {
  try {
    const number = serverError(error);
    if (number === undefined || READ_ONLY.includes(number)) throw error;
    await query('ROLLBACK', USUAL_PATIENCE);
  } catch {
    connection.destroy();
  }
}
