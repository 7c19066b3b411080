import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type DatabaseCredentials, SecretsManager } from '@nestjs-secrets/core';
import {
  type AppPlace,
  CREDENTIALS,
  partsAt,
  RotatingApp,
  type Strategy,
} from 'nestjs-secrets-test/crash/rotating-app';
import { freePort, type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { logIn } from './support/log-in.js';

let server: PostgresServer;
let folder: string;

beforeAll(async () => {
  server = await startPostgres();
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-down-'));
});
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Starts the application against a port; the store is the same each time. */
async function start(strategy: Strategy, name: string, port: number): Promise<INestApplicationContext> {
  const roleName = `${strategy.replace('-', '_')}_${name}`;
  const address = { host: server.host, port, database: server.database };
  const home = await mkdtempOnce(roleName);
  const place: AppPlace = { folder: home, strategy, roleName, server: address, admin: server.admin };
  return NestFactory.createApplicationContext(RotatingApp.with(place, partsAt(place)), {
    logger: false,
    abortOnError: false,
  });
}

const homes = new Map<string, Promise<string>>();
function mkdtempOnce(roleName: string): Promise<string> {
  const home = homes.get(roleName) ?? mkdtemp(path.join(folder, `${roleName}-`));
  homes.set(roleName, home);
  return home;
}

async function failureOf(attempt: Promise<INestApplicationContext>): Promise<unknown> {
  return attempt.then(
    async (app) => {
      await app.close();
      return undefined;
    },
    (error: unknown) => error,
  );
}

async function currentOf(app: INestApplicationContext): Promise<DatabaseCredentials> {
  return (await app.get(SecretsManager).getSecretValue<DatabaseCredentials>(CREDENTIALS)).value;
}

describe.each<Strategy>(['alternating-users', 'single-user'])('a database that is down at start (%s)', (strategy) => {
  it('fails with one clear error, and the next start finds everything as it was', async () => {
    const app = await start(strategy, 'later', server.port);
    const before = await currentOf(app);
    await app.close();

    const error = await failureOf(start(strategy, 'later', await freePort()));
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(before.password);

    const again = await start(strategy, 'later', server.port);
    expect(await currentOf(again)).toEqual(before);
    expect(await again.get(DataSource).query('SELECT session_user AS name')).toEqual([{ name: before.username }]);
    await again.get(SecretsManager).rotateSecret(CREDENTIALS, { until: 'retired' });
    expect(await logIn(server, before)).toBeUndefined();
    await again.close();
  });

  it('at the very first start: says which rotation did not get through, and the next start makes the first version', async () => {
    const error = await failureOf(start(strategy, 'first', await freePort()));
    expect(error).toMatchObject({ code: 'ROTATION_FAILED', secretName: CREDENTIALS, step: 'apply' });
    expect(String(error)).toContain('did not answer');

    const again = await start(strategy, 'first', server.port);
    const value = await currentOf(again);
    expect(await logIn(server, value)).toBe(value.username);
    expect(await again.get(DataSource).query('SELECT session_user AS name')).toEqual([{ name: value.username }]);
    await again.close();
  });
});
