export { LiveMysqlPool } from './live-mysql-pool.js';
export { LiveMysqlPoolCluster } from './live-mysql-pool-cluster.js';
export type { LiveMysqlPoolConfig, LiveMysqlPoolOptions } from './live-mysql-pool-config.js';
export { liveMysqlModule } from './live-mysql-module.js';
export type { LiveMysqlModule } from './live-mysql-module.js';
export { LivePoolClosedError, LivePoolConfigError, LivePoolCredentialsError } from '@nestjs-secrets/core';
export type { PoolGeneration } from '@nestjs-secrets/core';
