import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import { liveMysqlModule, type LiveMysqlModule, type LiveMysqlPoolOptions } from '@nestjs-secrets/mysql2';

export interface LiveMysqlOptions extends LiveMysqlPoolOptions {
  /** What TypeORM takes the server for; `mysql` by default. */
  readonly type?: 'mysql' | 'mariadb';
}

/** Part of the options of a MySQL or MariaDB DataSource. */
export interface LiveMysql {
  readonly type: 'mysql' | 'mariadb';
  readonly driver: LiveMysqlModule;
  /** TypeORM 0.3 asks which of two packages the driver is; TypeORM 1 knows mysql2 only. */
  readonly connectorPackage: 'mysql2';
}

/**
 * TypeORM options that take user and password from a secret, always the newest, through every rotation; to be spread into those that say
 * where the database is:
 *
 * ```ts
 * TypeOrmModule.forRootAsync({
 *   imports: [SecretsModule.forFeature(['MyDbCreds'])],
 *   inject: [getSecretToken('MyDbCreds')],
 *   useFactory: (creds: Secret<DatabaseCredentials>) => ({ ...liveMysql(creds), host, port, database, autoLoadEntities: true }),
 * });
 * ```
 *
 * The DataSource, its repositories and its managers stay the same objects. Each of its pools, the master's and every replica's, is a
 * `LiveMysqlPool`; a user or password given in `url`, `replication` or `extra` is not used.
 */
export function liveMysql(secret: Secret<DatabaseCredentials>, options: LiveMysqlOptions = {}): LiveMysql {
  const { type = 'mysql', ...poolOptions } = options;
  return { type, driver: liveMysqlModule(secret, poolOptions), connectorPackage: 'mysql2' };
}
