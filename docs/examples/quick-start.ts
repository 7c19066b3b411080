import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { defineSecret, getSecretToken, localKeyFile, SecretsModule } from '@nestjs-secrets/core';
import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import { postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { livePostgres, sqliteStore } from '@nestjs-secrets/typeorm';

const connection = { host: 'localhost', port: Number(process.env['PGPORT'] ?? 5432), database: 'postgres' };
const admin = { username: 'postgres', password: process.env['ADMIN_PASSWORD'] ?? '' };

/*  1 */ const roles = postgresAlternatingUsers({ connection, admin, baseName: 'orders' });
/*  2 */ const rotation = { rotator: roles.name, schedule: { every: '12h' } } as const;
/*  3 */ const myDbCreds = defineSecret<DatabaseCredentials>('MyDbCreds', undefined, { initial: 'rotator', rotation });
/*  4 */ const store = sqliteStore({ path: 'secrets.sqlite' });
/*  5 */ const keys = localKeyFile({ path: '../keys/orders.json' }); // not beside the store

@Module({
  imports: [
    /*  6 */ SecretsModule.forRoot({ store, keys, rotators: [roles] }),
    TypeOrmModule.forRootAsync({
      /*  7 */ imports: [SecretsModule.forFeature([myDbCreds])],
      /*  8 */ inject: [getSecretToken(myDbCreds)],
      /*  9 */ useFactory: (creds: Secret<DatabaseCredentials>) => ({
        /* 10 */ ...livePostgres(creds), // in place of `type`, `username` and `password`
        ...connection,
        autoLoadEntities: true,
      }),
    }),
  ],
})
export class AppModule {}
