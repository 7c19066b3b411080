import { Injectable, Module, StandardSchemaValidationPipe } from '@nestjs/common';
import { ConfigModule } from '@nestjs/config';
import { APP_PIPE } from '@nestjs/core';
import { ScheduleModule } from '@nestjs/schedule';
import { InjectDataSource, TypeOrmModule } from '@nestjs/typeorm';
import {
  getSecretToken,
  OnSecretChange,
  SecretsModule,
  type DatabaseCredentials,
  type Secret,
  type SecretChange,
} from '@nestjs-secrets/core';
import { DataSource } from 'typeorm';
import { configuration, type Configuration } from '../configuration.js';
import { CreateOrders1761955200000 } from '../database/create-orders.migration.js';
import { DatabaseServer } from '../database/database-server.js';
import { DatabaseServerModule } from '../database/database-server.module.js';
import { HealthModule } from '../health/health.module.js';
import { OrdersModule } from '../orders/orders.module.js';
import { CredentialsModule } from '../secrets/credentials.module.js';
import { myDbCreds } from '../secrets/my-db-creds.js';

/**
 * What people do today, with the same roles rotated by the same schedule: the old credential is retired only once this is through. The
 * DataSource is kept, since everything that was injected holds on to it.
 */
@Injectable()
class Reconnect {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @OnSecretChange(myDbCreds)
  async reconnect({ value: { username, password } }: SecretChange<DatabaseCredentials>): Promise<void> {
    if (this.dataSource.isInitialized) await this.dataSource.destroy();
    this.dataSource.setOptions({ username, password, migrationsRun: false });
    await this.dataSource.initialize();
  }
}

/** AppModule with an ordinary DataSource instead of a live one. */
@Module({
  imports: [
    ConfigModule.forRoot({ isGlobal: true, load: [configuration] }),
    DatabaseServerModule,
    ScheduleModule.forRoot(),
    CredentialsModule,
    TypeOrmModule.forRootAsync({
      imports: [SecretsModule.forFeature([myDbCreds])],
      inject: [getSecretToken(myDbCreds), DatabaseServer, configuration.KEY],
      useFactory: ({ value }: Secret<DatabaseCredentials>, server: DatabaseServer, { poolSize }: Configuration) => ({
        type: 'postgres',
        ...server.connection,
        ...value,
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
  providers: [Reconnect, { provide: APP_PIPE, useClass: StandardSchemaValidationPipe }],
})
export class NaiveAppModule {}
