import path from 'node:path';
import { Global, Module } from '@nestjs/common';
import { configuration, type Configuration } from '../configuration.js';
import { DatabaseServer } from './database-server.js';

@Global()
@Module({
  providers: [
    {
      provide: DatabaseServer,
      inject: [configuration.KEY],
      useFactory: ({ databaseUrl, dataDir }: Configuration) =>
        databaseUrl === undefined
          ? DatabaseServer.embedded(path.resolve(dataDir, 'postgres'), 'myapp')
          : DatabaseServer.at(databaseUrl),
    },
  ],
  exports: [DatabaseServer],
})
export class DatabaseServerModule {}
