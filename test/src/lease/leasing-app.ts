import { type DynamicModule, Module } from '@nestjs/common';
import {
  type DatabaseCredentials,
  defineSecret,
  localKeyFile,
  SecretsModule,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { postgresLease } from '@nestjs-secrets/pg';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { DataSource } from 'typeorm';
import { BASE_NAME, LEASE_MS, LEASED, type LeasePlace, TEMPLATE_ROLE, TTL_MS } from './lease-order.js';

export function leaseStore({ server, storeDatabase, admin }: LeasePlace): StoreDriver {
  const options = { type: 'postgres', ...server, database: storeDatabase, ...admin } as const;
  return sqlStore(new DataSource(options), { answerWithinMs: 700 });
}

/** An application whose instances have a role each. */
@Module({})
export class LeasingApp {
  static at(place: LeasePlace): DynamicModule {
    const rotator = postgresLease({
      connection: { ...place.server, database: place.targetDatabase },
      admin: place.admin,
      templateRole: TEMPLATE_ROLE,
      baseName: BASE_NAME,
    });
    const credentials = defineSecret<DatabaseCredentials>(LEASED, undefined, {
      rotation: { rotator: rotator.name, lease: TTL_MS },
    });
    return {
      module: LeasingApp,
      imports: [
        SecretsModule.forRoot({
          store: leaseStore(place),
          keys: localKeyFile({ path: place.keys }),
          rotators: [rotator],
          instance: { leaseMs: LEASE_MS },
          bootTimeoutMs: 30_000,
        }),
        SecretsModule.forFeature([credentials]),
      ],
    };
  }
}
