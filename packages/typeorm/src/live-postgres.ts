import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import { livePgModule, type LivePgModule, type LivePoolOptions } from '@nestjs-secrets/pg';

/** Part of the options of a PostgreSQL DataSource. */
export interface LivePostgres {
  readonly type: 'postgres';
  readonly driver: LivePgModule;
}

/**
 * TypeORM options that take user and password from a secret, always the newest, through every rotation; to be spread into those that say
 * where the database is:
 *
 * ```ts
 * TypeOrmModule.forRootAsync({
 *   imports: [SecretsModule.forFeature(['MyDbCreds'])],
 *   inject: [getSecretToken('MyDbCreds')],
 *   useFactory: (creds: Secret<DatabaseCredentials>) => ({ ...livePostgres(creds), host, port, database, autoLoadEntities: true }),
 * });
 * ```
 *
 * The DataSource, its repositories and its managers stay the same objects. Each of its pools, the master's and every replica's, is a
 * `LivePool`; a user or password given in `url`, `replication` or `extra` is not used.
 */
export function livePostgres(secret: Secret<DatabaseCredentials>, options: LivePoolOptions = {}): LivePostgres {
  return { type: 'postgres', driver: livePgModule(secret, options) };
}
