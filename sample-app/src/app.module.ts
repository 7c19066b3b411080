import { Module, StandardSchemaValidationPipe } from '@nestjs/common';
import { ConfigModule } from '@nestjs/config';
import { APP_PIPE } from '@nestjs/core';
import { ScheduleModule } from '@nestjs/schedule';
import { TypeOrmModule } from '@nestjs/typeorm';
import { getSecretToken, SecretsModule, type DatabaseCredentials, type Secret } from '@nestjs-secrets/core';
import { livePostgres } from '@nestjs-secrets/typeorm';
import { configuration, type Configuration } from './configuration.js';
import { CreateOrders1761955200000 } from './database/create-orders.migration.js';
import { DatabaseServer } from './database/database-server.js';
import { DatabaseServerModule } from './database/database-server.module.js';
import { HealthModule } from './health/health.module.js';
import { OrdersModule } from './orders/orders.module.js';
import { CredentialsModule } from './secrets/credentials.module.js';
import { myDbCreds } from './secrets/my-db-creds.js';

@Module({
  imports: [
    ConfigModule.forRoot({ isGlobal: true, load: [configuration] }),
    // Of the global modules, which Nest shuts down last and in reverse order, so that the server outlives its clients.
    DatabaseServerModule,
    ScheduleModule.forRoot(),
    CredentialsModule,
    TypeOrmModule.forRootAsync({
      imports: [SecretsModule.forFeature([myDbCreds])],
      inject: [getSecretToken(myDbCreds), DatabaseServer, configuration.KEY],
      useFactory: (credentials: Secret<DatabaseCredentials>, server: DatabaseServer, { poolSize }: Configuration) => ({
        ...livePostgres(credentials),
        ...server.connection,
        applicationName: 'my-app',
        poolSize,
        autoLoadEntities: true,
        migrations: [CreateOrders1761955200000],
        migrationsRun: true,
      }),
    }),
    OrdersModule,
    HealthModule,
  ],
  providers: [{ provide: APP_PIPE, useClass: StandardSchemaValidationPipe }],
})
export class AppModule {}
