import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import pg from 'pg';
import type { LivePoolOptions } from './live-pool-config.js';
import { LivePool } from './live-pool.js';

/** The `pg` module with a pool that lives on a secret. */
export type LivePgModule = Omit<typeof pg, 'Pool' | 'native'> & {
  readonly Pool: new (config?: pg.PoolConfig) => LivePool;
};

/**
 * What a library takes that wants the `pg` module itself and makes the pool on its own, as TypeORM's `driver` option does: everything in
 * it is pg's, but `new Pool(config)` gives a LivePool on the secret, whatever credentials the configuration carries.
 */
export function livePgModule(secret: Secret<DatabaseCredentials>, options: LivePoolOptions = {}): LivePgModule {
  class BoundLivePool extends LivePool {
    constructor(config: pg.PoolConfig = {}) {
      super(secret, { ...config, ...options });
    }
  }
  // Without `native`, which a spread leaves out: TypeORM prefers it when pg-native is installed, and its pool would not be ours.
  return { ...pg, Pool: BoundLivePool };
}
