import { Module } from '@nestjs/common';
import { SecretsModule } from '@nestjs-secrets/core';
import { myDbCreds } from '../secrets/my-db-creds.js';
import { CredentialHistory } from './credential-history.js';
import { DemoReporter } from './demo-reporter.js';
import { SlowPaymentsController } from './slow-payments.controller.js';

/** What the demo needs beside MyApp; not part of the template. */
@Module({
  imports: [SecretsModule.forFeature([myDbCreds])],
  controllers: [SlowPaymentsController],
  providers: [CredentialHistory, DemoReporter],
})
export class DemoModule {}
