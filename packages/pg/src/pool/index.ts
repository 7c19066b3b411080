export { LivePool } from './live-pool.js';
export type { LivePoolConfig, LivePoolOptions } from './live-pool-config.js';
export { LivePoolClosedError, LivePoolConfigError, LivePoolCredentialsError } from '@nestjs-secrets/core';
export { livePgModule } from './live-pg-module.js';
export type { LivePgModule } from './live-pg-module.js';
export type { PoolGeneration } from '@nestjs-secrets/core';
