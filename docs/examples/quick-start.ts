import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  type DatabaseCredentials,
  defineSecret,
  getSecretToken,
  localKeyFile,
  type Secret,
  SecretsModule,
} from '@nestjs-secrets/core';
import { postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { livePostgres, sqliteStore } from '@nestjs-secrets/typeorm';

const connection = { host: 'localhost', port: Number(process.env['PGPORT'] ?? 5432), database: 'postgres' };
const admin = { username: 'postgres', password: process.env['ADMIN_PASSWORD'] ?? '' };
const roles = postgresAlternatingUsers({ connection, admin, baseName: 'orders' });

export const myDbCreds = defineSecret<DatabaseCredentials>('MyDbCreds', undefined, {
  initial: 'rotator', // on an empty store: creates the first role and its password
  rotation: { rotator: roles.name, schedule: { every: '12h' } },
});

@Module({
  imports: [
    SecretsModule.forRoot({
      store: sqliteStore({ path: 'secrets.sqlite' }),
      keys: localKeyFile({ path: '../keys/orders.json' }), // not beside the store
      rotators: [roles],
    }),
    TypeOrmModule.forRootAsync({
      imports: [SecretsModule.forFeature([myDbCreds])],
      inject: [getSecretToken(myDbCreds)],
      useFactory: (creds: Secret<DatabaseCredentials>) => ({
        ...livePostgres(creds), // type and driver; user and password are the secret's, always
        ...connection,
        autoLoadEntities: true,
      }),
    }),
  ],
})
export class AppModule {}
