import { cpSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { ConsoleLogger, type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  type DatabaseCredentials,
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  InjectSecret,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsHealthIndicator,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { livePostgres, sqlStore } from '@nestjs-secrets/typeorm';
import { filter, firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import { CREDENTIALS, partsAt } from '../crash/rotating-app.js';
import type { CanaryOrder } from './canary-order.js';
import { type FailingStep, talkativeRotator } from './talkative-rotator.js';
import { show, showFailure } from './talkative.js';

interface ApiKey {
  readonly key: string;
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

@Injectable()
class Consumer {
  constructor(
    @InjectSecret('ApiKey') readonly apiKey: Secret<ApiKey>,
    @InjectSecret(CREDENTIALS) readonly credentials: Secret<DatabaseCredentials>,
  ) {}

  /** Throws what it was told, and only once the handle has moved on. */
  @OnSecretChange('ApiKey')
  async take(change: SecretChange<ApiKey>): Promise<void> {
    show('a change', change);
    if (change.versionId === 'mine')
      await firstValueFrom(this.apiKey.changes$.pipe(filter(({ versionId }) => versionId !== 'mine')));
    throw new Error(`a careless listener had ${change.value.key}`);
  }
}

@Module({})
class EmptyModule {}

const logger = (): ConsoleLogger =>
  new ConsoleLogger({ logLevels: ['verbose', 'debug', 'log', 'warn', 'error', 'fatal'], colors: false, depth: 10 });

async function boot(order: CanaryOrder, failing: ReadonlySet<FailingStep>): Promise<INestApplicationContext> {
  const { place, canaries, madeFile } = order;
  const { store, keys, rotator } = partsAt(place);
  const talkative = talkativeRotator(rotator, madeFile, failing);
  const apiKey = defineSecret<ApiKey>('ApiKey', apiKeySchema, { initial: () => ({ key: canaries.initial }) });
  const credentials = defineSecret<DatabaseCredentials>(CREDENTIALS, undefined, {
    initial: 'rotator',
    rotation: { rotator: talkative.name },
  });
  const root = {
    module: EmptyModule,
    imports: [
      SecretsModule.forRoot({
        store,
        keys,
        rotators: [talkative],
        audit: { folder: path.join(place.folder, 'audit'), timeLimitMs: 60_000 },
      }),
      SecretsModule.forFeature([apiKey, credentials]),
      TypeOrmModule.forRootAsync({
        imports: [SecretsModule.forFeature([CREDENTIALS])],
        inject: [getSecretToken(CREDENTIALS)],
        useFactory: (creds: Secret<DatabaseCredentials>) => ({
          ...livePostgres(creds),
          ...place.server,
          retryAttempts: 0,
          logging: 'all' as const,
          logger: 'simple-console' as const,
        }),
      }),
    ],
    providers: [Consumer],
  };
  return NestFactory.createApplicationContext(root, { logger: logger(), abortOnError: false });
}

function showEverything(app: INestApplicationContext): void {
  const dataSource = app.get(DataSource);
  const { apiKey, credentials } = app.get(Consumer);
  show('handles', [apiKey, credentials, { apiKey }]);
  show('manager', app.get(SecretsManager));
  show('health', app.get(SecretsHealthIndicator).check());
  show('data source options', dataSource.options);
  show('data source', dataSource);
  show('pool', (dataSource.driver as unknown as { master: unknown }).master);
  show('environment', process.env);
}

async function useManager(app: INestApplicationContext, { canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  show('put', await manager.putSecretValue('ApiKey', { key: canaries.put }, { versionId: 'mine' }));
  await app.get(Consumer).apiKey.refresh();
  await manager.putSecretValue('ApiKey', { key: canaries.conflicting });
  await app.get(Consumer).apiKey.refresh();
  show('get', await manager.getSecretValue('ApiKey'));
  show('describe', await manager.describeSecret('ApiKey'));
  show('list', await manager.listSecrets());
  show('versions', await manager.listVersions('ApiKey'));
  await showFailure('schema mismatch', () =>
    manager.putSecretValue('ApiKey', { key: [canaries.misfit], [canaries.misfit]: canaries.misfit }),
  );
  await showFailure('too large', () =>
    manager.putSecretValue('ApiKey', { key: canaries.oversized.padEnd(70_000, '.') }),
  );
  await showFailure('conflict', () =>
    manager.putSecretValue('ApiKey', { key: canaries.conflicting }, { versionId: 'mine' }),
  );
  await showFailure('exists', () => manager.createSecret('ApiKey', { key: canaries.conflicting }));
}

async function rotateWithFailures(app: INestApplicationContext, failing: Set<FailingStep>): Promise<void> {
  const manager = app.get(SecretsManager);
  show('rotated', await manager.rotateSecret(CREDENTIALS, { until: 'retired' }));
  for (const step of ['create', 'apply', 'verify'] as const) {
    failing.add(step);
    await showFailure(`${step} fails`, () => manager.rotateSecret(CREDENTIALS));
    failing.delete(step);
  }
  failing.add('verify').add('undo');
  await showFailure('undo fails', () => manager.rotateSecret(CREDENTIALS));
  const undone = firstValueFrom(manager.rotationEvents$.pipe(filter(({ type }) => type === 'undone')));
  failing.clear();
  await undone;
  // The event comes while the rotation that was undone is still ending; a request in the same turn would join it.
  await new Promise((resolve) => setImmediate(resolve));
  failing.add('retire');
  const refused = firstValueFrom(
    manager.rotationEvents$.pipe(filter((event) => event.type === 'failed' && event.step === 'retire')),
  );
  await manager.rotateSecret(CREDENTIALS);
  await refused;
  failing.clear();
  show('rotated', await manager.rotateSecret(CREDENTIALS, { until: 'retired' }));
}

async function failQueries(app: INestApplicationContext): Promise<void> {
  const dataSource = app.get(DataSource);
  await showFailure('no such table', () => dataSource.query('SELECT * FROM nowhere WHERE id = $1', [1]));
  await showFailure('in a transaction', () =>
    dataSource.transaction((manager) => manager.query('SELECT 1 / $1::int', [0])),
  );
  const unreachable = new DataSource({
    ...(dataSource.options as object),
    port: 1,
    logging: 'all',
  } as typeof dataSource.options);
  await showFailure('no server', () => unreachable.initialize());
  const elsewhere = new DataSource({
    ...(dataSource.options as object),
    database: 'nowhere',
  } as typeof dataSource.options);
  await showFailure('no such database', () => elsewhere.initialize());
}

async function startWithWrongKey({ place }: CanaryOrder): Promise<void> {
  const { store } = partsAt(place);
  const root = SecretsModule.forRoot({ store, keys: ephemeralKeys() });
  await showFailure('wrong key', () =>
    NestFactory.createApplicationContext(root, { logger: logger(), abortOnError: false }),
  );
}

async function liveOnPostgres({ place, canaries }: CanaryOrder): Promise<void> {
  const dataSource = new DataSource({
    type: 'postgres',
    ...place.server,
    ...place.admin,
    logging: 'all',
    logger: 'simple-console',
  });
  const root = SecretsModule.forRoot({ store: sqlStore(dataSource), keys: ephemeralKeys() });
  const app = await NestFactory.createApplicationContext(root, { logger: logger(), abortOnError: false });
  const manager = app.get(SecretsManager);
  show('created', await manager.createSecret('InPostgres', { text: canaries.inPostgres }));
  show('got', await manager.getSecretValue('InPostgres'));
  await app.close();
}

/** The whole life of an application that logs as much as it can, and of whatever goes wrong in it. */
async function live(order: CanaryOrder): Promise<void> {
  const failing = new Set<FailingStep>();
  const app = await boot(order, failing);
  app.get(SecretsManager).rotationEvents$.subscribe((event) => show('event', event));
  showEverything(app);
  await useManager(app, order);
  await rotateWithFailures(app, failing);
  await failQueries(app);
  showEverything(app);
  mkdirSync(order.copyFolder);
  cpSync(order.place.folder, order.copyFolder, {
    recursive: true,
    filter: (file) => !/^(keys|lock-.*)$/.test(path.basename(file)),
  });
  await app.close();
  await startWithWrongKey(order);
  await liveOnPostgres(order);
}

const order: CanaryOrder = JSON.parse(process.argv[2] ?? '');
await live(order);
process.stdout.write('lived to the end\n');
