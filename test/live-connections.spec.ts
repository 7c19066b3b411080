import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getDataSourceToken, getEntityManagerToken, getRepositoryToken } from '@nestjs/typeorm';
import { type DatabaseCredentials, getSecretToken, type RotationEvent, type Secret, SecretsManager } from '@nestjs-secrets/core';
import { type AppPlace, CREDENTIALS, partsAt, RotatingApp, type Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';
import { Order, Orders, OrdersModule } from './support/orders.js';

let server: PostgresServer;
let folder: string;
let place: AppPlace;
let app: INestApplicationContext;
let orders: Orders;
let manager: SecretsManager;
let creds: Secret<DatabaseCredentials>;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

async function start(strategy: Strategy): Promise<void> {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-live-'));
  const database = strategy.replace('-', '_');
  await server.query(`CREATE DATABASE ${database}`);
  const address = { host: server.host, port: server.port, database };
  place = { folder, strategy, roleName: database, server: address, admin: server.admin };
  app = await NestFactory.createApplicationContext(
    { module: class Root {}, imports: [RotatingApp.with(place, partsAt(place)), OrdersModule] },
    { logger: false, abortOnError: false },
  );
  orders = app.get(Orders);
  manager = app.get(SecretsManager);
  creds = app.get(getSecretToken(CREDENTIALS), { strict: false });
}

async function sessionsOf({ username }: DatabaseCredentials, openedBefore: string): Promise<number> {
  const rows = await server.query('SELECT FROM pg_stat_activity WHERE usename = $1 AND backend_start < $2', [username, openedBefore]);
  return rows.length;
}

async function serverTime(): Promise<string> {
  const [row] = await server.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  return row?.at ?? '';
}

describe.each<Strategy>(['alternating-users', 'single-user'])('an application whose credentials rotate (%s)', (strategy) => {
  beforeAll(async () => {
    await start(strategy);
    await orders.dataSource.query('CREATE SCHEMA IF NOT EXISTS public').catch(() => undefined);
  });
});
