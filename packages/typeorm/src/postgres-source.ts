import type { DataSource, DataSourceOptions } from 'typeorm';
import type { SqlLimits } from './sql-backend.js';

export type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

/** The part of a pg client the store uses. */
export interface PgClient {
  query(query: {
    text: string;
    values?: readonly unknown[] | undefined;
    query_timeout: number;
  }): Promise<PgResult | PgResult[]>;
  end(): Promise<void>;
  /** Not part of a client that an application has wrapped. */
  unref?(): void;
  on(event: 'notification', listener: (message: PgNotification) => void): unknown;
  on(event: 'error' | 'end', listener: () => void): unknown;
}

export interface PgNotification {
  readonly channel: string;
  readonly payload?: string;
}

export interface PgResult {
  readonly rows: object[];
}

export interface Row {
  readonly key: string;
  readonly value: Buffer;
  /** A string, a number or a bigint, as the application has set up pg for int8. */
  readonly revision: string | number | bigint;
}

/**
 * A DataSource for the store alone, to the primary that `options` speak of. Whatever can be waited for has a limit: a place in the pool, a
 * connection, each answer. TCP itself would wait for minutes, or for ever where a connection died without a word.
 */
export function postgresSource(Source: typeof DataSource, options: PostgresOptions, limits: SqlLimits): DataSource {
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
    installExtensions: false,
    cache: false,
    // Neither statements nor their parameters belong in the application's SQL log.
    logging: false,
    // Whoever uses the store meets its errors; connections that end while idle are replaced without a word.
    poolErrorHandler: () => undefined,
    extra: {
      ...(rest.extra as object | undefined),
      max: connections + 1,
      connectionTimeoutMillis: answerWithinMs,
      query_timeout: answerWithinMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: answerWithinMs,
      allowExitOnIdle: true,
    },
  });
}

/** What tells an error of the server from one of the way to it, whose codes (EPIPE…) begin with an E: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export function sqlState(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' && /^(?!E)[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined;
}
