import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import {
  type DatabaseCredentials,
  getSecretToken,
  type KeyProvider,
  localKeyFile,
  movingKeys,
  movingStore,
  type MovingStore,
  passphraseKeyFile,
  type Secret,
  SecretsManager,
  type StoreDriver,
  StoreIntegrity,
} from '@nestjs-secrets/core';
import { pkcs11Keys } from '@nestjs-secrets/pkcs11';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { fleetStoreAt, type FleetStoreKind, startFleetStore } from 'nestjs-secrets-test/chaos/fleet-store';
import { type AppPlace, CREDENTIALS, LEDGER, partsAt, RotatingApp } from 'nestjs-secrets-test/crash/rotating-app';
import { describeWithEtcd } from 'nestjs-secrets-test/describe-with-etcd';
import { describeWithRedis } from 'nestjs-secrets-test/describe-with-redis';
import { describeWithSofthsm } from 'nestjs-secrets-test/describe-with-softhsm';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { softhsmTokens } from 'nestjs-secrets-test/softhsm-tokens';
import { BootedApps } from './support/booted-apps.js';
import { eventually } from './support/eventually.js';
import { expectFailure } from './support/expect-failure.js';
import { runAs } from './support/log-in.js';
import { Orders, OrdersModule } from './support/orders.js';

const apps = new BootedApps();
let server: PostgresServer;
let folder: string;
let place: AppPlace;
let places = 0;
let orderIds = 0;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-moving-'));
  const database = `moving_${(places += 1)}`;
  await server.query(`CREATE DATABASE ${database}`);
  await server.query(`CREATE DATABASE ${database}_store`);
  const address = { host: server.host, port: server.port, database };
  place = { folder, strategy: 'alternating-users', roleName: database, server: address, admin: server.admin };
  await runAs(address, server.admin, 'GRANT ALL ON SCHEMA public TO PUBLIC');
});

afterEach(async () => {
  await apps.closeAll();
  await rm(folder, { recursive: true, force: true });
});

interface Parts {
  readonly store: StoreDriver;
  readonly keys: KeyProvider;
}

let boots = 0;

/** The application on these; each has an audit log of its own. */
function boot({ store, keys }: Parts): Promise<INestApplicationContext> {
  const audit = { folder: path.join(folder, `audit-${(boots += 1)}`) };
  return apps.boot(RotatingApp.with(place, { ...partsAt(place), store, keys, audit }), OrdersModule);
}

/** Queries, reads, writes and rotations of running applications, until it is told to stop. */
class Load {
  readonly failures: string[] = [];
  readonly orders: number[] = [];
  reads = 0;
  rotations = 0;
  ledger = 0;
  #isOn = true;
  readonly #done: Promise<unknown>;

  constructor(running: readonly INestApplicationContext[]) {
    const [first] = running;
    if (first === undefined) throw new Error('no application');
    this.#done = Promise.all([
      ...running.flatMap((app) => [
        ...[1, 2, 3].map(() => this.#keep(() => this.#order(app))),
        this.#keep(() => this.#read(app)),
      ]),
      this.#keep(() => this.#write(first)),
      this.#keep(() => this.#rotate(first)),
    ]);
  }

  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#done;
  }

  async #keep(work: () => Promise<void>): Promise<void> {
    while (this.#isOn) {
      try {
        await work();
      } catch (error) {
        this.failures.push(String(error));
      }
      await delay(2);
    }
  }

  async #order(app: INestApplicationContext): Promise<void> {
    const id = (orderIds += 1);
    await app.get(Orders).place(id);
    this.orders.push(id);
  }

  async #read(app: INestApplicationContext): Promise<void> {
    const least = this.ledger;
    const { value } = await app.get(SecretsManager).getSecretValue<number>(LEDGER);
    if (value < least) throw new Error(`the ledger says ${value} after ${least} was acknowledged`);
    const handle = app.get<Secret<DatabaseCredentials>>(getSecretToken(CREDENTIALS), { strict: false });
    if (handle.value.username === '') throw new Error('a handle without a value');
    this.reads += 1;
  }

  async #write(app: INestApplicationContext): Promise<void> {
    await app.get(SecretsManager).putSecretValue(LEDGER, this.ledger + 1);
    this.ledger += 1;
  }

  async #rotate(app: INestApplicationContext): Promise<void> {
    await app.get(SecretsManager).rotateSecret(CREDENTIALS);
    this.rotations += 1;
  }

  async some(): Promise<void> {
    const { reads, rotations, ledger, orders } = this;
    const placed = orders.length;
    await eventually(
      'all kinds of work go on',
      () =>
        this.failures.length > 0 ||
        (this.reads > reads + 5 &&
          this.rotations > rotations &&
          this.ledger > ledger + 3 &&
          this.orders.length > placed + 20),
      120_000,
    );
  }
}

async function expectWhole(app: INestApplicationContext, load: Load): Promise<void> {
  const manager = app.get(SecretsManager);
  expect((await manager.getSecretValue(LEDGER)).value).toBe(load.ledger);
  const orders = app.get(Orders);
  expect(await orders.count()).toBe(load.orders.length);
  expect((await app.get(StoreIntegrity, { strict: false }).verifyStore()).findings).toEqual([]);
  await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
  await orders.place((orderIds += 1));
}

function storeTests(kind: FleetStoreKind): void {
  it('fails no query, no read and no write, and is whole afterwards', async () => {
    const other = await startFleetStore(kind);
    const { host, port } = other ?? server;
    const database = `${place.server.database}_store`;
    const credentials = (other ?? server).admin;
    const at = { kind, host, port, database, credentials };
    const to = (): StoreDriver => fleetStoreAt(at, 'moving', 20_000);
    const from = (): StoreDriver => sqliteStore({ path: path.join(folder, 'secrets.db'), answerWithinMs: 20_000 });
    const moving = (): MovingStore => movingStore({ from: from(), to: to(), freezeMs: 30_000 });
    const { keys } = partsAt(place);
    try {
      // Before anybody thinks of moving.
      const plain = await boot({ store: from(), keys });
      await plain.get(Orders).dataSource.synchronize();
      for (let count = 0; count < 300; count += 1)
        await plain.get(SecretsManager).createSecret(`many/${count}`, `value ${count}`);
      await plain.close();
      const stores = [moving(), moving()];
      const running: INestApplicationContext[] = [];
      for (const store of stores) running.push(await boot({ store, keys: partsAt(place).keys }));
      const load = new Load(running);
      await load.some();
      const report = await stores[0]?.move();
      await load.some();
      await load.stop();

      expect(load.failures).toEqual([]);
      expect(report?.entries).toBeGreaterThan(300);
      expect(await stores[1]?.phase()).toBe('moved');
      for (const app of running) {
        expect((await app.get(SecretsManager).audit.verify()).verdict).toBe('intact');
        await app.close();
      }
      await expectFailure(() => boot({ store: from(), keys: partsAt(place).keys }), 'STORE_MOVED');

      const alone = await boot({ store: to(), keys: partsAt(place).keys });
      await expectWhole(alone, load);
      for (let count = 0; count < 300; count += 50)
        expect((await alone.get(SecretsManager).getSecretValue(`many/${count}`)).value).toBe(`value ${count}`);
      await alone.close();
    } finally {
      await other?.stop();
    }
  }, 400_000);
}

describe('an application on SQLite that moves to PostgreSQL', () => storeTests('postgres'));
describeWithRedis('an application on SQLite that moves to Redis', () => storeTests('redis'));
describeWithEtcd('an application on SQLite that moves to etcd', () => storeTests('etcd'));

/** Moves running applications from one provider to the other, and looks whether the other one alone opens everything. */
async function expectToMove(from: () => KeyProvider, to: () => KeyProvider): Promise<void> {
  const store = (): StoreDriver => sqliteStore({ path: path.join(folder, 'secrets.db'), answerWithinMs: 20_000 });
  const both = (): Parts => ({ store: store(), keys: movingKeys({ from: from(), to: to() }) });
  const running = [await boot(both()), await boot(both())];
  const [first] = running;
  if (first === undefined) throw new Error('no application');
  await first.get(Orders).dataSource.synchronize();
  const manager = first.get(SecretsManager);
  if ((await manager.listSecrets({ prefix: 'many/' })).items.length === 0)
    for (let count = 0; count < 100; count += 1) await manager.createSecret(`many/${count}`, `value ${count}`);
  const before = (await manager.getSecretValue<number>(LEDGER)).value;
  const placed = await first.get(Orders).count();
  const load = new Load(running);
  load.ledger = before;
  await load.some();
  const report = await manager.keys.move({ deadline: '3m' });
  await load.some();
  await load.stop();
  expect(load.failures).toEqual([]);
  expect(report.left).toEqual([]);
  expect(report.rewrapped.failed).toBe(0);
  expect(report.keys).toHaveLength(1);
  for (const app of running) {
    expect((await app.get(SecretsManager).audit.verify()).verdict).toBe('intact');
    await app.close();
  }
  await expectFailure(() => boot({ store: store(), keys: from() }), 'KEY_MISMATCH');

  const alone = await boot({ store: store(), keys: to() });
  load.orders.push(...Array.from({ length: placed }, () => 0));
  await expectWhole(alone, load);
  for (let count = 0; count < 100; count += 10)
    expect((await alone.get(SecretsManager).getSecretValue(`many/${count}`)).value).toBe(`value ${count}`);
  expect((await alone.get(SecretsManager).audit.verify()).verdict).toBe('intact');
  await alone.close();
}

const keyFile = (): KeyProvider => localKeyFile({ path: path.join(folder, 'keys', 'local.key') });
const sealedKeyFile = (): KeyProvider =>
  passphraseKeyFile({
    path: path.join(folder, 'sealed-keys', 'local.key'),
    passphrase: () => 'a passphrase of a test, long enough',
  });

describe('an application whose keys move under load', () => {
  it('goes from a key file to a passphrase', () => expectToMove(keyFile, sealedKeyFile), 400_000);
});

describeWithSofthsm('an application whose keys move into a token', () => {
  it('goes from a passphrase to PKCS#11', async () => {
    const tokens = await softhsmTokens();
    try {
      const pin = await tokens.make('orders');
      const token = (): KeyProvider =>
        pkcs11Keys({
          library: tokens.library,
          token: 'orders',
          pin,
          id: 'orders',
          deadlineMs: 60_000,
          attemptMs: 60_000,
        });
      await expectToMove(sealedKeyFile, token);
    } finally {
      await tokens.dispose();
    }
  }, 400_000);
});
