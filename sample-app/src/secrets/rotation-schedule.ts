import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { SecretsManager } from '@nestjs-secrets/core';
import { configuration, type Configuration } from '../configuration.js';
import { DATABASE_ROTATOR, myDbCreds } from './my-db-creds.js';

/** Gives `MyDbCreds` the schedule of this environment, before rotating begins. */
@Injectable()
export class RotationSchedule implements OnModuleInit {
  constructor(
    private readonly secrets: SecretsManager,
    @Inject(configuration.KEY) private readonly config: Configuration,
  ) {}

  async onModuleInit(): Promise<void> {
    const { rotateEvery } = this.config;
    await this.secrets.updateRotationPolicy(myDbCreds.name, {
      rotator: DATABASE_ROTATOR,
      ...(rotateEvery === 'never' ? {} : { schedule: { every: rotateEvery } }),
    });
  }
}
