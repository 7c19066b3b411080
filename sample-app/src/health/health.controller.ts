import { Controller, Get, ServiceUnavailableException } from '@nestjs/common';
import { SecretsHealthIndicator } from '@nestjs-secrets/core';
import { DatabaseReadiness } from './database-readiness.js';

@Controller('health')
export class HealthController {
  constructor(
    private readonly database: DatabaseReadiness,
    private readonly secrets: SecretsHealthIndicator,
  ) {}

  /** Says no more than that the process answers: a restart would not bring a lost database back. */
  @Get('live')
  live(): { status: 'ok' } {
    return { status: 'ok' };
  }

  @Get('ready')
  async ready() {
    const isDatabaseReady = await this.database.isReady();
    const { secrets } = this.secrets.check('secrets');
    const report = { database: { status: isDatabaseReady ? 'up' : 'down' }, secrets };
    if (!isDatabaseReady || secrets?.status !== 'up')
      throw new ServiceUnavailableException({ status: 'error', ...report });
    return { status: 'ok', ...report };
  }
}
