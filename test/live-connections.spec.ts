import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getDataSourceToken, getEntityManagerToken, getRepositoryToken } from '@nestjs/typeorm';
import {
  type DatabaseCredentials,
  getSecretToken,
  type RotationEvent,
  type Secret,
  SecretsManager,
} from '@nestjs-secrets/core';
import {
  type AppPlace,
  CREDENTIALS,
  partsAt,
  RotatingApp,
  type Strategy,
} from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import { eventually } from './support/eventually.js';
import { logIn, runAs } from './support/log-in.js';
import { Order, Orders, OrdersModule } from './support/orders.js';

let server: PostgresServer;
let folder: string;
let place: AppPlace;
let started = 0;
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
  const database = `${strategy.replace('-', '_')}_${(started += 1)}`;
  await server.query(`CREATE DATABASE ${database}`);
  const address = { host: server.host, port: server.port, database };
  place = { folder, strategy, roleName: database, server: address, admin: server.admin };
  await runAs(address, server.admin, 'GRANT ALL ON SCHEMA public TO PUBLIC');
  app = await NestFactory.createApplicationContext(
    { module: class Root {}, imports: [RotatingApp.with(place, partsAt(place)), OrdersModule] },
    { logger: false, abortOnError: false },
  );
  orders = app.get(Orders);
  manager = app.get(SecretsManager);
  await orders.dataSource.synchronize();
  creds = app.get(getSecretToken(CREDENTIALS), { strict: false });
}

async function stop(): Promise<void> {
  await app?.close();
  await rm(folder, { recursive: true, force: true });
}

async function serverTime(): Promise<string> {
  const [row] = await server.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  return row?.at ?? '';
}

/** Sessions opened as this user before a moment of the server's clock. */
async function sessionsOf({ username }: DatabaseCredentials, before: string): Promise<number> {
  return (
    await server.query('SELECT FROM pg_stat_activity WHERE usename = $1 AND backend_start < $2', [username, before])
  ).length;
}

interface Load {
  /** Ids whose insert or transaction was acknowledged. */
  readonly acknowledged: number[];
  readonly failures: unknown[];
  /** Resolves when every worker has had its last answer. */
  stop(): Promise<void>;
}

/** More workers than the pool has connections, so that there are always some in its queue. */
function startLoad(workers: number): Load {
  const [acknowledged, failures]: [number[], unknown[]] = [[], []];
  let isRunning = true;
  let nextId = 1;
  const work = async (place: (id: number) => Promise<void>): Promise<void> => {
    while (isRunning) {
      const id = nextId++;
      try {
        await place(id);
        acknowledged.push(id);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  const running = Array.from({ length: workers }, (_, worker) =>
    work((id) => (worker % 2 === 0 ? orders.place(id) : orders.placeAndPay(id))),
  );
  return {
    acknowledged,
    failures,
    stop: async () => {
      isRunning = false;
      await Promise.all(running);
    },
  };
}

const ROTATIONS = 30;

describe.each<Strategy>(['alternating-users', 'single-user'])(
  'an application whose credentials rotate (%s)',
  (strategy) => {
    beforeEach(() => start(strategy));
    afterEach(stop);

    it(`I3 I4 I6 I9 ${ROTATIONS} rotations under load: nothing fails, hangs or gets lost, and every old credential is dead`, async () => {
      const before = {
        dataSource: app.get(getDataSourceToken(), { strict: false }),
        manager: app.get(getEntityManagerToken(), { strict: false }),
        repository: app.get(getRepositoryToken(Order), { strict: false }),
        repositoryByHand: orders.dataSource.getRepository(Order),
      };
      const seen: number[] = [];
      creds.changes$.subscribe(({ versionId }) => seen.push(Number(versionId.slice(1))));
      const stillAlive: string[] = [];
      // Where a session ends that the pool still holds, retirement came too early.
      const poolErrors: unknown[] = [];
      (orders.dataSource.driver as PostgresDriver).master.on('error', (error: unknown) => poolErrors.push(error));
      const load = startLoad(12);
      for (let rotation = 1; rotation <= ROTATIONS; rotation += 1) {
        const { versionId, value } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
        const startedAt = await serverTime();
        await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
        if ((await logIn(place.server, value)) !== undefined) stillAlive.push(`${versionId} logs in`);
        if ((await sessionsOf(value, startedAt)) > 0) stillAlive.push(`${versionId} has sessions`);
      }
      await load.stop();

      expect(load.failures).toEqual([]);
      expect(poolErrors).toEqual([]);
      expect(stillAlive).toEqual([]);
      expect(seen).toEqual(Array.from({ length: ROTATIONS + 1 }, (_, index) => index + 1));
      expect(load.acknowledged.length).toBeGreaterThan(ROTATIONS);
      expect((await orders.repository.find()).map(({ id }) => id).sort((a, b) => a - b)).toEqual(
        load.acknowledged.sort((a, b) => a - b),
      );

      expect(app.get(getDataSourceToken(), { strict: false })).toBe(before.dataSource);
      expect(app.get(getEntityManagerToken(), { strict: false })).toBe(before.manager);
      expect(app.get(getRepositoryToken(Order), { strict: false })).toBe(before.repository);
      expect(orders.dataSource).toBe(before.dataSource);
      expect(orders.manager).toBe(before.manager);
      expect(orders.repository).toBe(before.repository);
      const [who] = await before.repositoryByHand.query('SELECT session_user AS name');
      expect(who.name).toBe(creds.value.username);
      expect(await before.manager.count(Order)).toBe(load.acknowledged.length);
    });

    it('I5 an old credential lives as long as a transaction of its time, which ends well', async () => {
      const events: RotationEvent[] = [];
      manager.rotationEvents$.subscribe((event) => events.push(event));
      const { value: old, versionId } = creds;
      const runner = orders.dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.manager.insert(Order, { id: 1 });
      await manager.rotateSecret(CREDENTIALS);
      await orders.place(2);
      await eventually('the engine waits for the old connection', () =>
        events.some((event) => event.type === 'settling' && event.versionId === versionId),
      );
      await runner.manager.insert(Order, { id: 3 });
      const { rotation } = await manager.describeSecret(CREDENTIALS);
      expect(rotation?.unretired).toEqual([versionId]);
      // With one user there is one password, so only its sessions can outlive the change.
      if (strategy === 'alternating-users') expect(await logIn(place.server, old)).toBe(old.username);

      await runner.commitTransaction();
      await runner.release();
      await eventually('the old version is retired', () =>
        events.some((event) => event.type === 'retired' && event.versionId === versionId),
      );
      expect(await logIn(place.server, old)).toBeUndefined();
      expect(await orders.count()).toBe(3);
    });

    it('I2 requests that come together are one rotation', async () => {
      const results = await Promise.all(Array.from({ length: 5 }, () => manager.rotateSecret(CREDENTIALS)));
      expect(new Set(results.map(({ rotationId }) => rotationId)).size).toBe(1);
      expect(results[0]?.versionId).toBe('v2');
      expect(creds.name).toBe(CREDENTIALS);
    });

    it('leaves no session open when it is closed', async () => {
      await Promise.all(Array.from({ length: 8 }, () => orders.count()));
      const { value } = creds;
      await app.close();
      await eventually('the server has no session left', async () => (await sessionsOf(value, 'infinity')) === 0);
      expect(await logIn(place.server, value)).toBe(value.username);
    });
  },
);
