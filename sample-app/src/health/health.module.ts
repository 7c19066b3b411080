import { Module } from '@nestjs/common';
import { SecretsModule } from '@nestjs-secrets/core';
import { myDbCreds } from '../secrets/my-db-creds.js';
import { DatabaseReadiness } from './database-readiness.js';
import { HealthController } from './health.controller.js';

@Module({
  imports: [SecretsModule.forFeature([myDbCreds])],
  controllers: [HealthController],
  providers: [DatabaseReadiness],
})
export class HealthModule {}
