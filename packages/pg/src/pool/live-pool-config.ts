import { LivePoolConfigError } from '@nestjs-secrets/core';
import type pg from 'pg';
import { parse } from 'pg-connection-string';

/** What a live pool takes beyond the configuration of a `pg.Pool`. */
export interface LivePoolOptions {
  /** How connections of an older version make way for new ones. */
  readonly replacement?: {
    /** Replacements under way at one time, and so the most connections the pool holds beyond `max`: 1 (the default) or 2. */
    readonly concurrency?: 1 | 2;
    /** Milliseconds between the close of a replaced connection and the next replacement; 20 by default. */
    readonly paceMs?: number;
  };
  /**
   * Run on each replacement before it is handed in, for instance to touch the tables a request needs first. When it rejects, the connection
   * is handed in all the same, unless it broke. Not needed to make ordinary statements fast: the pool has the server plan the parametrised
   * statements it ran last on each replacement, without running them.
   */
  readonly warmUp?: (client: pg.ClientBase) => Promise<unknown>;
  /** Milliseconds `end()` lets waiters in the queue wait for a connection to come back; 10,000 by default. */
  readonly endTimeoutMs?: number;
}

/** Everything a `pg.Pool` takes but credentials: those come from the secret, and nothing given here wins over them. */
export type LivePoolConfig = Omit<pg.PoolConfig, 'user' | 'password' | 'Client'> & LivePoolOptions;

/** The configuration for pg-pool: without our own options, and without a credential from any of the places where one may stand. */
export function withoutCredentials(config: LivePoolConfig): pg.PoolConfig {
  const { connectionString, replacement, warmUp, endTimeoutMs, ...rest } = config;
  // pg lets what a connection string says win over the fields beside it, a user and a password included, so none may stay for it to read.
  const options: Record<string, unknown> = {
    ...rest,
    ...(connectionString ? parseConnectionString(connectionString) : {}),
  };
  for (const key of ['user', 'password', 'Client']) delete options[key];
  return options;
}

function parseConnectionString(connectionString: string): object {
  try {
    return parse(connectionString);
  } catch {
    // The parser's error is not passed on: Node's URL errors carry their input.
    throw new LivePoolConfigError(
      'The connectionString (url) of the pool cannot be read. Write it as postgres://host:5432/database, with special characters percent-encoded and without credentials: those come from the secret.',
    );
  }
}

/** Where the pool connects to, for labels: `orders@127.0.0.1:5432`. */
export function describeTarget(options: pg.PoolConfig): string {
  const { PGDATABASE, PGHOST, PGPORT } = process.env;
  return `${options.database || PGDATABASE || 'postgres'}@${options.host || PGHOST || 'localhost'}:${options.port || PGPORT || 5432}`;
}
