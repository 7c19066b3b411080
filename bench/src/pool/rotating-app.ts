import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  defineSecret,
  getSecretToken,
  localKeyFile,
  type DatabaseCredentials,
  type RetireReport,
  type Secret,
  secretLink,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { postgresAlternatingUsers, postgresSingleUser } from '@nestjs-secrets/pg';
import { livePostgres, sqliteStore } from '@nestjs-secrets/typeorm';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { guards } from '../guards.js';
import type { LoadTarget } from './pool-load.js';

export type Strategy = 'alternating-users' | 'single-user';

/** How the application takes on new credentials: through this library, or as people do today, `destroy()` and `initialize()`. */
export type Adoption = 'live' | 'reinitialize';

export interface RotatingAppOptions {
  readonly server: PostgresServer;
  readonly strategy: Strategy;
  readonly adoption: Adoption;
  /** The application name of its connections, to count them by. */
  readonly applicationName: string;
  /** Milliseconds; undefined for no rotation. */
  readonly rotateEveryMs: number | undefined;
  readonly poolSize: number;
  /** With policies and an audit log in files; without either by default. */
  readonly guarded?: boolean;
}

export interface RotatingApp {
  readonly target: LoadTarget;
  /** How many versions became current since the start. */
  readonly rotations: number;
  /** What each retirement proved, in order. */
  readonly retired: readonly RetireReport[];
  readonly failures: readonly string[];
  /** Every credential that has been current, the last one being it now. */
  readonly credentials: readonly DatabaseCredentials[];
  /** Rotates once, up to promotion. */
  rotate(): Promise<void>;
  /** Stops the schedule and waits until every replaced version is retired. */
  stopRotating(): Promise<void>;
  close(): Promise<void>;
}

const TWO_SECOND_TRANSACTIONS_MS = 3000;

/** A Nest application with the whole library in it: embedded store, key file, the real rotator and a TypeORM DataSource. */
export async function startRotatingApp(options: RotatingAppOptions): Promise<RotatingApp> {
  const { server, strategy, rotateEveryMs } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const roleName = `bench_${options.applicationName.replace(/[^a-z0-9]/g, '_')}`;
  const connection = { host: server.host, port: server.port, database: server.database };
  const rotator =
    strategy === 'alternating-users'
      ? postgresAlternatingUsers({
          connection,
          admin: server.admin,
          baseName: roleName,
          // Wide enough that transactions of two seconds never hold the next rotation up.
          roles: rotateEveryMs === undefined ? 2 : Math.ceil(TWO_SECOND_TRANSACTIONS_MS / rotateEveryMs) + 2,
        })
      : postgresSingleUser({ connection, admin: server.admin, username: roleName });
  const definition = defineSecret<DatabaseCredentials>('BenchDbCreds', undefined, {
    initial: 'rotator',
    rotation: { rotator: rotator.name },
  });

  @Module({
    imports: [
      SecretsModule.forRoot({
        store: sqliteStore({ path: path.join(folder, 'store.sqlite') }),
        keys: localKeyFile({ path: path.join(folder, 'keys.json'), create: 'if-missing' }),
        rotators: [rotator],
        ...(options.guarded === true ? guards(folder, 'Bench') : {}),
      }),
      SecretsModule.forFeature([definition]),
    ],
  })
  class App {}

  const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
  const secret = app.get<Secret<DatabaseCredentials>>(getSecretToken(definition), { strict: false });
  const manager = app.get(SecretsManager);
  const retired: RetireReport[] = [];
  const failures: string[] = [];
  const credentials: DatabaseCredentials[] = [];
  manager.rotationEvents$.subscribe((event) => {
    if (event.type === 'retired' && event.report !== undefined) retired.push(event.report);
    if (event.type === 'failed') failures.push(`${event.step}: ${event.message}`);
  });
  secret.changes$.subscribe(({ value }) => credentials.push(value));

  const base = {
    type: 'postgres' as const,
    ...connection,
    poolSize: options.poolSize,
    applicationName: options.applicationName,
  };
  const database =
    options.adoption === 'live' ? await liveDatabase(secret, base) : await reinitializedDatabase(secret, base);
  if (rotateEveryMs !== undefined)
    await manager.updateRotationPolicy(definition.name, { rotator: rotator.name, schedule: { every: rotateEveryMs } });
  return {
    target: database.target,
    get rotations() {
      return credentials.length - 1;
    },
    retired,
    failures,
    credentials,
    async rotate() {
      await manager.rotateSecret(definition.name);
    },
    async stopRotating() {
      await manager.updateRotationPolicy(definition.name, { rotator: rotator.name });
      const idle = async (): Promise<boolean> => {
        const { rotation } = await manager.describeSecret(definition.name);
        return rotation?.step === undefined && rotation?.unretired.length === 0;
      };
      while (!(await idle())) await new Promise((resolve) => setTimeout(resolve, 50));
    },
    async close() {
      await database.close();
      await app.close();
      await rm(folder, { recursive: true });
    },
  };
}

interface Database {
  readonly target: LoadTarget;
  close(): Promise<void>;
}

async function liveDatabase(secret: Secret<DatabaseCredentials>, base: object): Promise<Database> {
  const dataSource = new DataSource({ ...base, ...livePostgres(secret) });
  await dataSource.initialize();
  return { target: dataSourceTarget(() => dataSource), close: () => dataSource.destroy() };
}

/** As people do today: on each change, end the DataSource and initialise one with the new credentials. The old ones live until that is done. */
async function reinitializedDatabase(secret: Secret<DatabaseCredentials>, base: object): Promise<Database> {
  const connect = async ({ username, password }: DatabaseCredentials): Promise<DataSource> =>
    new DataSource({ ...base, username, password } as DataSourceOptions).initialize();
  let held = secret.versionId;
  let dataSource = await connect(secret.value);
  const attachment = secretLink(secret).attach({ label: 'reinitialized DataSource', holds: () => [held] });
  let swapping = Promise.resolve();
  const subscription = secret.changes$.subscribe(({ versionId, value }) => {
    swapping = swapping.then(async () => {
      if (versionId === held) return;
      await dataSource.destroy().catch(() => undefined);
      dataSource = await connect(value);
      held = versionId;
      attachment.update();
    });
  });
  return {
    target: dataSourceTarget(() => dataSource),
    async close() {
      subscription.unsubscribe();
      await swapping;
      attachment.detach();
      await dataSource.destroy();
    },
  };
}

function dataSourceTarget(dataSource: () => DataSource): LoadTarget {
  return {
    query: (text, values) => dataSource().query(text, values && [...values]),
    transaction: (work) =>
      dataSource().transaction((manager) => work((text, values) => manager.query(text, values && [...values]))),
  };
}
