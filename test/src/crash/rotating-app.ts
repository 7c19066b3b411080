import path from 'node:path';
import { type DynamicModule, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  type AuditOptions,
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
import { sqliteStore } from '@nestjs-secrets/typeorm';
import type { AppPlace } from './app-place.js';
import { type DatabaseRotator, TARGET_KINDS, type TargetKind } from './target-kinds.js';

export type { AppPlace, Strategy } from './app-place.js';

/** What the application runs on; tests put their own around these. */
export interface AppParts {
  readonly store: StoreDriver;
  readonly keys: KeyProvider;
  readonly rotator: DatabaseRotator;
  readonly audit?: AuditOptions;
}

/** Connections in the application's pool. */
export const POOL_SIZE = 4;

/** A secret that no rotator touches, for values whose acknowledgement is remembered elsewhere. */
export const LEDGER = 'Ledger';
export const CREDENTIALS = 'MyDbCreds';

export function kindOf({ kind = 'postgres' }: AppPlace): TargetKind {
  return TARGET_KINDS[kind];
}

export function partsAt(place: AppPlace): AppParts {
  const { folder } = place;
  return {
    store: sqliteStore({ path: path.join(folder, 'secrets.db') }),
    keys: localKeyFile({ path: path.join(folder, 'keys', 'local.key'), create: 'if-missing' }),
    rotator: kindOf(place).rotator(place),
  };
}

/** An application as a team would write it: a TypeORM connection on credentials that the rotator makes and rotates, and one more secret. */
@Module({})
export class RotatingApp {
  static with(place: AppPlace, { store, keys, rotator, audit }: AppParts): DynamicModule {
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
        SecretsModule.forRoot({ store, keys, rotators: [rotator], audit }),
        SecretsModule.forFeature([credentials, ledger]),
        TypeOrmModule.forRootAsync({
          imports: [SecretsModule.forFeature([CREDENTIALS])],
          inject: [getSecretToken(CREDENTIALS)],
          useFactory: (creds: Secret<DatabaseCredentials>) => ({
            ...kindOf(place).live(creds),
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
