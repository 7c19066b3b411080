import path from 'node:path';
import { ConsoleLogger, type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  auditLogger,
  auditOpenTelemetry,
  type AuditSinkUse,
  type DatabaseCredentials,
  defineSecret,
  getSecretToken,
  InjectSecret,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsModule,
} from '@nestjs-secrets/core';
import { filter, firstValueFrom } from 'rxjs';
import { CREDENTIALS, kindOf, partsAt } from '../crash/rotating-app.js';
import type { CanaryOrder } from './canary-order.js';
import { carelessError } from './careless-error.js';
import { type FailingKeyStep, type MadeKey, talkativeKeys } from './talkative-keys.js';
import { type FailingStep, type Gossip, talkativeRotator } from './talkative-rotator.js';
import { show, showBare } from './talkative.js';

export interface ApiKey {
  readonly key: string;
}

/** What is to fail from now on. */
export interface Failing {
  readonly steps: Set<FailingStep>;
  readonly keys: Set<FailingKeyStep>;
  readonly gossip: Gossip;
}

/** A schema by hand, and a careless one: its message quotes what it was given. */
const apiKeySchema = {
  '~standard': {
    version: 1 as const,
    vendor: 'by-hand',
    validate: (value: unknown) =>
      typeof (value as Partial<ApiKey>).key === 'string'
        ? { value: value as ApiKey }
        : { issues: [{ message: `not an API key: ${JSON.stringify(value)}`, path: ['key'] }] },
  },
};

export const MADE_KEY = 'MadeKey';
export const LEASED_KEY = 'LeasedKey';

@Injectable()
export class Consumer {
  constructor(
    @InjectSecret('ApiKey') readonly apiKey: Secret<ApiKey>,
    @InjectSecret(CREDENTIALS) readonly credentials: Secret<DatabaseCredentials>,
  ) {}

  /** Throws what it was told, and only once the handle has moved on. */
  @OnSecretChange('ApiKey')
  async take(change: SecretChange<ApiKey>): Promise<void> {
    showBare('a change', change);
    if (change.versionId === 'mine')
      await firstValueFrom(this.apiKey.changes$.pipe(filter(({ versionId }) => versionId !== 'mine')));
    throw carelessError('a listener', [change.value]);
  }
}

@Module({})
class EmptyModule {}

export const plainLogger = (): ConsoleLogger =>
  new ConsoleLogger({ logLevels: ['verbose', 'debug', 'log', 'warn', 'error', 'fatal'], colors: false, depth: 10 });

/** The audit log as others get it. */
const passedOn = (): AuditSinkUse[] => [
  { sink: auditLogger(plainLogger()), mode: 'best-effort' },
  { sink: auditOpenTelemetry({ emit: (record) => show('audit record', record) }), mode: 'best-effort' },
];

/** An application that logs as much as it can. */
export async function boot(
  { place, canaries, madeFile, chapters }: CanaryOrder,
  failing: Failing,
): Promise<INestApplicationContext> {
  const { store, keys, rotator } = partsAt(place);
  const talkative = talkativeRotator(rotator, madeFile, failing.steps, failing.gossip);
  const made = talkativeKeys('made-keys', madeFile, failing.keys, 'single-user');
  const leased = talkativeKeys('leased-keys', madeFile, failing.keys, 'lease');
  const apiKey = defineSecret<ApiKey>('ApiKey', apiKeySchema, { initial: () => ({ key: canaries.initial }) });
  const credentials = defineSecret<DatabaseCredentials>(CREDENTIALS, undefined, {
    initial: 'rotator',
    rotation: { rotator: talkative.name },
  });
  const more = [
    ...(chapters.includes('rollback')
      ? [defineSecret<MadeKey>(MADE_KEY, undefined, { initial: 'rotator', rotation: { rotator: made.name } })]
      : []),
    ...(chapters.includes('lease')
      ? [defineSecret<MadeKey>(LEASED_KEY, undefined, { rotation: { rotator: leased.name, lease: '10s' } })]
      : []),
  ];
  const root = {
    module: EmptyModule,
    imports: [
      SecretsModule.forRoot({
        store,
        keys,
        rotators: [talkative, made, leased],
        audit: { folder: path.join(place.folder, 'audit'), timeLimitMs: 60_000, sinks: passedOn() },
      }),
      SecretsModule.forFeature([apiKey, credentials, ...more]),
      TypeOrmModule.forRootAsync({
        imports: [SecretsModule.forFeature([CREDENTIALS])],
        inject: [getSecretToken(CREDENTIALS)],
        useFactory: (creds: Secret<DatabaseCredentials>) => ({
          ...kindOf(place).live(creds),
          ...place.server,
          retryAttempts: 0,
          logging: 'all' as const,
          logger: 'simple-console' as const,
        }),
      }),
    ],
    providers: [Consumer],
  };
  return NestFactory.createApplicationContext(root, { logger: plainLogger(), abortOnError: false });
}
