import { LivePoolConfigError } from '@nestjs-secrets/core';
import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import mysql from 'mysql2';
import type * as types from 'mysql2';

/** What mysql2 makes of the options of a pool: every default filled in, and those of the connections apart. */
export interface PoolConfig extends types.PoolOptions {
  readonly connectionConfig: types.ConnectionOptions;
}

export type EndCallback = (error: NodeJS.ErrnoException | null) => unknown;

/** A pool with its completed configuration, and with the promise that a live pool's `end` gives. */
export type Mysql2Pool = types.Pool & {
  config: PoolConfig;
  end(): Promise<void>;
};

/** A statement, log-in or other exchange with the server. It reports to `onResult`, or by events when it has none. */
export interface Command extends EventEmitter {
  onResult?: ((error: unknown, ...results: unknown[]) => void) | undefined;
}

/** A connection with the two members of mysql2 that its types leave out. */
export interface Mysql2PoolConnection extends types.PoolConnection {
  readonly stream: Duplex;
  /** Every command passes here: the log-in, queries, executions, the making of a prepared statement. */
  addCommand(command: Command): Command;
}

interface Mysql2Classes {
  readonly Pool: new (options: { readonly config: PoolConfig }) => Mysql2Pool;
  readonly PoolConnection: new (
    pool: types.Pool,
    options: { readonly config: types.ConnectionOptions },
  ) => Mysql2PoolConnection;
  readonly PoolCluster: new (options?: types.PoolClusterOptions) => types.PoolCluster;
  readonly Connection: { readonly prototype: { end(this: types.PoolConnection, callback: () => void): void } };
}

/**
 * The classes of mysql2, which its types declare as interfaces only. Tested with mysql2 3.11.0 and 3.24.6. A live pool keeps its
 * connections itself and touches no private member of mysql2's pool; of theirs it uses the constructor and the two members above.
 */
export const { Pool, PoolConnection, PoolCluster, Connection } = classesOf(mysql);

function classesOf(module: object): Mysql2Classes {
  if (!hasClasses(module)) {
    throw new LivePoolConfigError(
      'This version of mysql2 exports no Pool, PoolConnection, PoolCluster or Connection class: use one from 3.11 on.',
    );
  }
  return module;
}

function hasClasses(module: object): module is Mysql2Classes {
  const exported = new Map<string, unknown>(Object.entries(module));
  return ['Pool', 'PoolConnection', 'PoolCluster', 'Connection'].every(
    (name) => typeof exported.get(name) === 'function',
  );
}
