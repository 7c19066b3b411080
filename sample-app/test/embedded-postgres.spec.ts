import { readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { getSecretToken, type Secret } from '@nestjs-secrets/core';
import pg from 'pg';
import { EmbeddedPostgres } from '../src/database/embedded-postgres.js';
import { environmentIn, removeFolder, startMyApp, temporaryFolder } from './my-app.js';

let folder: string;
let running: EmbeddedPostgres | undefined;

beforeEach(async () => {
  folder = await temporaryFolder();
});

afterEach(async () => {
  await running?.stop();
  running = undefined;
  await removeFolder(folder);
});

async function start(): Promise<EmbeddedPostgres> {
  running = await EmbeddedPostgres.start(path.join(folder, 'postgres'));
  return running;
}

async function query(
  server: EmbeddedPostgres,
  text: string,
  password = server.admin.password,
): Promise<pg.QueryResult> {
  const { host, port, admin } = server;
  const client = new pg.Client({ host, port, database: 'postgres', user: admin.username, password });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await client.query(text);
  } finally {
    await client.end();
  }
}

async function postmaster(): Promise<number> {
  return Number((await readFile(path.join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n')[0]);
}

async function untilDead(pid: number): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    if (Date.now() > deadline) throw new Error(`Process ${pid} does not end.`);
    await delay(20);
  }
}

describe('the embedded PostgreSQL', () => {
  it('asks for a password, by SCRAM, and keeps its own in a file for nobody else', async () => {
    const server = await start();
    await expect(query(server, 'SELECT 1', 'wrong')).rejects.toMatchObject({ code: '28P01' });
    const { rows } = await query(
      server,
      `SELECT rolpassword LIKE 'SCRAM-SHA-256$%' AS scram FROM pg_authid WHERE rolname = 'postgres'`,
    );
    expect(rows).toEqual([{ scram: true }]);
    const { mode } = await stat(path.join(folder, 'postgres', 'admin-password'));
    expect(mode & 0o777).toBe(0o600);
  });

  it('has its data and its administrator after a restart', async () => {
    const first = await start();
    await first.ensureDatabase('My "Shop"');
    await query(first, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();
    const second = await start();
    await second.ensureDatabase('My "Shop"');
    expect(second.admin).toEqual(first.admin);
    expect((await query(second, 'SELECT answer FROM kept')).rows).toEqual([{ answer: 42 }]);
    expect((await query(second, `SELECT FROM pg_database WHERE datname = 'My "Shop"'`)).rowCount).toBe(1);
  });

  it('is taken over from an application that was killed', async () => {
    const orphan = await start();
    const pid = await postmaster();
    const taken = await start();
    expect(taken.port).toBe(orphan.port);
    expect(await postmaster()).toBe(pid);
    await taken.stop();
    await untilDead(pid);
  });

  it('starts although a killed server left its lock behind', async () => {
    const killed = await start();
    await query(killed, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const pid = await postmaster();
    process.kill(pid, 'SIGKILL');
    await untilDead(pid);
    const server = await start();
    expect((await query(server, 'SELECT answer FROM kept')).rows).toEqual([{ answer: 42 }]);
  });

  it('starts anew when its first start was cut short', async () => {
    const server = await start();
    await server.stop();
    await rm(path.join(folder, 'postgres', 'cluster', 'PG_VERSION'));
    await rename(path.join(folder, 'postgres', 'cluster'), path.join(folder, 'postgres', 'cluster.new'));
    expect((await query(await start(), 'SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  });

  it('may be stopped when it is down already', async () => {
    const server = await start();
    await server.stop();
    await server.stop();
    await expect(query(server, 'SELECT 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

describe('MyApp without DATABASE_URL', () => {
  it('goes on with its orders and its credentials after a restart, and leaves no server behind', async () => {
    const environment = environmentIn(folder);
    const versionIds: string[] = [];
    for (const run of [1, 2]) {
      const myApp = await startMyApp(environment);
      const pid = Number(
        (await readFile(path.join(folder, 'data/postgres/cluster/postmaster.pid'), 'utf8')).split('\n')[0],
      );
      try {
        versionIds.push(myApp.app.get<Secret>(getSecretToken('MyDbCreds'), { strict: false }).versionId);
        await myApp.post('/orders', { customer: `run ${run}`, totalCents: run });
        expect((await myApp.get('/orders')).body).toHaveLength(run);
        expect((await myApp.get('/health/ready')).status).toBe(200);
      } finally {
        await myApp.app.close();
      }
      await untilDead(pid);
    }
    expect(versionIds).toEqual(['v1', 'v1']);
  });

  it('keeps the key for its store elsewhere, for nobody else', async () => {
    const { app } = await startMyApp(environmentIn(folder));
    await app.close();
    expect((await stat(path.join(folder, 'keys/my-app.json'))).mode & 0o777).toBe(0o600);
    expect((await stat(path.join(folder, 'data/secrets'))).mode & 0o777).toBe(0o700);
  });
});
