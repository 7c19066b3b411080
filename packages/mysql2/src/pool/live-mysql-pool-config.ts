import { LivePoolConfigError } from '@nestjs-secrets/core';
import mysql from 'mysql2';
import type { PoolConnection, PoolOptions } from 'mysql2';
import type { PoolConfig } from './mysql2-classes.js';

/** What a live pool takes beyond the configuration of a mysql2 pool. */
export interface LiveMysqlPoolOptions {
  /** How connections of an older version make way for new ones. */
  readonly replacement?: {
    /** Replacements under way at one time, and so the most connections the pool holds beyond `connectionLimit`: 1 (the default) or 2. */
    readonly concurrency?: 1 | 2;
    /** Milliseconds between the close of a replaced connection and the next replacement; 20 by default. */
    readonly paceMs?: number;
  };
  /**
   * Run on each replacement before it is handed in, for instance to set session variables. When it rejects, the connection is handed in all
   * the same, unless it broke.
   */
  readonly warmUp?: (connection: PoolConnection) => Promise<unknown>;
  /** Milliseconds `end()` lets callers in the queue wait for a connection to come back; 10,000 by default. */
  readonly endTimeoutMs?: number;
}

/** Everything a mysql2 pool takes but credentials: those come from the secret, and nothing given here wins over them. */
export type LiveMysqlPoolConfig = Omit<PoolOptions, Credential> & LiveMysqlPoolOptions;

const CREDENTIALS = ['user', 'password', 'password1', 'passwordSha1'] as const;
type Credential = (typeof CREDENTIALS)[number];

/**
 * The configuration as mysql2 completes it: without our own options, and without a credential from any of the places where one may stand.
 * @throws LivePoolConfigError when the `uri` cannot be read.
 */
export function withoutCredentials(config: LiveMysqlPoolConfig): PoolConfig {
  const { replacement, warmUp, endTimeoutMs, ...rest } = config;
  const options: PoolOptions & { -readonly [K in Credential]?: unknown } = { ...rest };
  for (const key of CREDENTIALS) delete options[key];
  const completed = complete(options);
  for (const key of CREDENTIALS) delete (completed.connectionConfig as typeof options)[key];
  return completed;
}

function complete(options: PoolOptions): PoolConfig {
  try {
    // mysql2 exports no other way to its defaults. The pool has opened nothing, so that its end is immediate.
    const pool = mysql.createPool(options);
    pool.end();
    return pool.config as PoolConfig;
  } catch (error) {
    if (options.uri === undefined) throw error;
    // The error is not passed on: Node's URL errors carry their input.
    throw new LivePoolConfigError(
      'The uri of the pool cannot be read. Write it as mysql://host:3306/database, with special characters percent-encoded and without credentials: those come from the secret.',
    );
  }
}

/** Where the pool connects to, for labels: `orders@127.0.0.1:3306`. */
export function describeTarget({ connectionConfig }: PoolConfig): string {
  const { database, host, port, socketPath } = connectionConfig;
  return `${database ?? ''}@${socketPath ?? `${host}:${port}`}`;
}
