import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import { LivePoolConfigError } from '@nestjs-secrets/core';
import type { Pool, PoolClusterOptions, PoolOptions } from 'mysql2';
import type { LiveMysqlPoolOptions } from './live-mysql-pool-config.js';
import { LiveMysqlPool } from './live-mysql-pool.js';
import { PoolCluster } from './mysql2-classes.js';

/** Where mysql2 puts a node that fails aside, the milliseconds until it is asked again; mysql2 itself would drop it for good. */
const RESTORE_NODE_TIMEOUT_MS = 1000;

/**
 * A mysql2 `PoolCluster` in which the pool of every node is a `LiveMysqlPool` on one secret, whatever credentials the node's configuration
 * carries. A node that failed `removeNodeErrorCount` times is asked again after `restoreNodeTimeout`, 1000 ms by default: mysql2's own
 * default is to drop it for good, which would make a passing refusal a lasting one.
 */
export class LiveMysqlPoolCluster extends PoolCluster {
  readonly #secret: Secret<DatabaseCredentials>;
  readonly #options: LiveMysqlPoolOptions;
  #added = 0;

  constructor(
    secret: Secret<DatabaseCredentials>,
    config: PoolClusterOptions = {},
    options: LiveMysqlPoolOptions = {},
  ) {
    super({ ...config, restoreNodeTimeout: config.restoreNodeTimeout || RESTORE_NODE_TIMEOUT_MS });
    this.#secret = secret;
    this.#options = options;
  }

  /**
   * @throws LivePoolConfigError when the `uri` of the node cannot be read.
   */
  override add(idOrConfig: string | PoolOptions, config: string | PoolOptions = {}): void {
    if (typeof idOrConfig !== 'string') {
      this.#added += 1;
      this.add(`CLUSTER::${this.#added}`, idOrConfig);
      return;
    }
    const nodes = nodesOf(this);
    if (Object.hasOwn(nodes, idOrConfig)) return;
    // mysql2 makes a pool of its own, which never gets to open anything.
    super.add(idOrConfig, {});
    const node = nodes[idOrConfig];
    if (node === undefined) throw unknownCluster();
    const pool = new LiveMysqlPool(this.#secret, { ...asOptions(config), ...this.#options });
    node.pool = pool;
  }
}

type Nodes = Record<string, { pool: Pool }>;

/** The one private member of mysql2's cluster that is used here. A contract test holds it against the installed version. */
function nodesOf(cluster: object): Nodes {
  if (!('_nodes' in cluster) || typeof cluster._nodes !== 'object' || cluster._nodes === null) throw unknownCluster();
  return cluster._nodes as Nodes;
}

function unknownCluster(): LivePoolConfigError {
  return new LivePoolConfigError(
    'This version of mysql2 keeps the pools of a cluster elsewhere than 3.11 to 3.24 do, so they cannot be live: use one of those.',
  );
}

export function asOptions(config: string | PoolOptions): PoolOptions {
  return typeof config === 'string' ? { uri: config } : config;
}
