import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import mysql from 'mysql2';
import type { PoolClusterOptions, PoolOptions } from 'mysql2';
import { asOptions, LiveMysqlPoolCluster } from './live-mysql-pool-cluster.js';
import type { LiveMysqlPoolOptions } from './live-mysql-pool-config.js';
import { LiveMysqlPool } from './live-mysql-pool.js';

/** The `mysql2` module with pools that live on a secret. */
export type LiveMysqlModule = Omit<typeof mysql, 'createPool' | 'createPoolCluster'> & {
  createPool(config: string | PoolOptions): LiveMysqlPool;
  createPoolCluster(config?: PoolClusterOptions): LiveMysqlPoolCluster;
};

/**
 * What a library takes that wants the `mysql2` module itself and makes the pool on its own, as TypeORM's `driver` option does: everything in
 * it is mysql2's, but `createPool` and `createPoolCluster` give live pools on the secret, whatever credentials the configuration carries.
 */
export function liveMysqlModule(
  secret: Secret<DatabaseCredentials>,
  options: LiveMysqlPoolOptions = {},
): LiveMysqlModule {
  return {
    ...mysql,
    createPool: (config) => new LiveMysqlPool(secret, { ...asOptions(config), ...options }),
    createPoolCluster: (config) => new LiveMysqlPoolCluster(secret, config, options),
  };
}
