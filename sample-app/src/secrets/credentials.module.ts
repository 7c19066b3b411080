import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { Module } from '@nestjs/common';
import { localKeyFile, SecretsModule } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { configuration, type Configuration } from '../configuration.js';
import { DatabaseServer } from '../database/database-server.js';
import { databaseRotator } from './database-rotator.js';

@Module({
  imports: [
    SecretsModule.forRootAsync({
      inject: [configuration.KEY, DatabaseServer],
      useFactory: async (config: Configuration, server: DatabaseServer) => {
        const folder = path.resolve(config.dataDir, 'secrets');
        await mkdir(folder, { recursive: true, mode: 0o700 });
        return {
          store: sqliteStore({ path: path.join(folder, 'store.sqlite') }),
          keys: localKeyFile({ path: config.keyFile }),
          rotators: [await databaseRotator(config, server)],
        };
      },
    }),
  ],
})
export class CredentialsModule {}
