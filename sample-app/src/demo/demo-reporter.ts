import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { SecretsManager } from '@nestjs-secrets/core';
import { LivePool } from '@nestjs-secrets/pg';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { CredentialHistory } from './credential-history.js';
import { tellDemo, type DemoMessage } from './messages.js';

const GENERATIONS_EVERY_MS = 250;

/** Tells the demo what happens inside MyApp. */
@Injectable()
export class DemoReporter implements OnApplicationBootstrap, OnApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly secrets: SecretsManager,
    private readonly history: CredentialHistory,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  onApplicationBootstrap(): void {
    this.secrets.rotationEvents$.subscribe(({ type }) => {
      if (type === 'promoted') tellDemo({ type });
    });
    this.timer = setInterval(() => this.tellGenerations(), GENERATIONS_EVERY_MS);
    process.on('message', (message: DemoMessage) => {
      if (message.type === 'prove') void this.history.prove().then((proof) => tellDemo({ type: 'proof', proof }));
    });
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  private tellGenerations(): void {
    const { master: pool } = this.dataSource.driver as { master?: unknown };
    if (!(pool instanceof LivePool)) return;
    const generations = [...pool.generations()].map(([versionId, { total }]) => [versionId, total] as const);
    tellDemo({ type: 'generations', connections: Object.fromEntries(generations) });
  }
}
