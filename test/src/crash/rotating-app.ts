import path from 'node:path';
import { type DynamicModule, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  type DatabaseCredentials,
  defineSecret,
  getSecretToken,
  type KeyProvider,
  localKeyFile,
  type Secret,
  type SecretDefinition,
  SecretsModule,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { type PostgresRotator, postgresAlternatingUsers, postgresSingleUser } from '@nestjs-secrets/pg';
import { livePostgres, sqliteStore } from '@nestjs-secrets/typeorm';

export type Strategy = 'alternating-users' | 'single-user';

/** Where an application of the end-to-end tests lives: its folder, and its place on a PostgreSQL server. JSON, so that a child can be told. */
export interface AppPlace {
  /** Holds the store and the key file; both are found again after a restart. */
  readonly folder: string;
  readonly strategy: Strategy;
  /** The role of `single-user`, or the base name of the ring of `alternating-users`. */
  readonly roleName: string;
  readonly server: { readonly host: string; readonly port: number; readonly database: string };
  readonly admin: DatabaseCredentials;
}

/** What the application runs on; tests put their own around these. */
export interface AppParts {
  readonly store: StoreDriver;
  readonly keys: KeyProvider;
  readonly rotator: PostgresRotator;
}

/** Connections in the application's pool. */
export const POOL_SIZE = 4;

/** A secret that no rotator touches, for values whose acknowledgement is remembered elsewhere. */
export const LEDGER = 'Ledger';
export const CREDENTIALS = 'MyDbCreds';

export function partsAt(place: AppPlace): AppParts {
  const { folder, strategy, roleName, server: connection, admin } = place;
  return {
    store: sqliteStore({ path: path.join(folder, 'secrets.db') }),
    keys: localKeyFile({ path: path.join(folder, 'keys', 'local.key'), create: 'if-missing' }),
    rotator:
      strategy === 'alternating-users'
        ? postgresAlternatingUsers({ connection, admin, baseName: roleName })
        : postgresSingleUser({ connection, admin, username: roleName }),
  };
}

/** An application as a team would write it: a TypeORM connection on credentials that the rotator makes and rotates, and one more secret. */
@Module({})
export class RotatingApp {
  static with(place: AppPlace, { store, keys, rotator }: AppParts): DynamicModule {
    const credentials: SecretDefinition<DatabaseCredentials> = defineSecret<DatabaseCredentials>(
      CREDENTIALS,
      undefined,
      {
        initial: 'rotator',
        rotation: { rotator: rotator.name },
      },
    );
    const ledger = defineSecret<number>(LEDGER, undefined, { initial: () => 0 });
    return {
      module: RotatingApp,
      imports: [
        SecretsModule.forRoot({ store, keys, rotators: [rotator] }),
        SecretsModule.forFeature([credentials, ledger]),
        TypeOrmModule.forRootAsync({
          imports: [SecretsModule.forFeature([CREDENTIALS])],
          inject: [getSecretToken(CREDENTIALS)],
          useFactory: (creds: Secret<DatabaseCredentials>) => ({
            ...livePostgres(creds),
            ...place.server,
            autoLoadEntities: true,
            retryAttempts: 0,
            poolSize: POOL_SIZE,
          }),
        }),
      ],
    };
  }
}
