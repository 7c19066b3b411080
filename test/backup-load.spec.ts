import { randomBytes, randomInt } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { exportStore, generateBackupIdentity, importStore, inspectBackup } from '@nestjs-secrets/backup';
import {
  type DatabaseCredentials,
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  isSecretsError,
  type KeyProvider,
  localKeyFile,
  type Secret,
  SecretsManager,
  SecretsModule,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { LivePool, postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { sqliteStore, sqlStore } from '@nestjs-secrets/typeorm';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { BootedApps } from './support/booted-apps.js';
import { leaks } from './support/leak-search.js';

const WRITERS = 16;
const SECRETS_EACH = 3;
const CANARY = `"cänary" 'ß'/\\?&=${randomBytes(12).toString('hex')}`;

let server: PostgresServer;
let folder: string;
const apps = new BootedApps();

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: 'off' } });
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-backup-'));
}, 120_000);
afterEach(() => apps.closeAll());
afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Shop {
  readonly app: INestApplicationContext;
  readonly manager: SecretsManager;
  readonly creds: Secret<DatabaseCredentials>;
  readonly pool: LivePool;
}

async function openShop(store: StoreDriver, keys: KeyProvider): Promise<Shop> {
  const { host, port, database, admin } = server;
  const roles = postgresAlternatingUsers({ connection: { host, port, database }, admin, baseName: 'shop' });
  const shopDb = defineSecret<DatabaseCredentials>('ShopDb', undefined, {
    initial: 'rotator',
    rotation: { rotator: roles.name, schedule: { every: '700ms' } },
  });
  const app = await apps.boot(
    SecretsModule.forRoot({ store, keys, rotators: [roles] }),
    SecretsModule.forFeature([shopDb]),
  );
  const creds = app.get<Secret<DatabaseCredentials>>(getSecretToken(shopDb), { strict: false });
  return { app, manager: app.get(SecretsManager), creds, pool: new LivePool(creds, { host, port, database, max: 4 }) };
}

/** A store and keys alone, to import into before any application starts on it. */
async function openForRestore(store: StoreDriver, keys: KeyProvider): Promise<SecretsManager> {
  return (await apps.boot(SecretsModule.forRoot({ store, keys, rotate: false }))).get(SecretsManager);
}

const postgresStore = (table: string): StoreDriver => {
  const { host, port, database, admin } = server;
  return sqlStore(new DataSource({ type: 'postgres', host, port, database, ...admin }), { table });
};

/** What was current in a secret, from when somebody asked for it until the answer to whoever replaced it. */
interface Reign {
  readonly versionId: string;
  readonly value: string;
  readonly from: number;
  until: number;
}

/** When there was none, from when somebody asked for its end until the answer to whoever made it anew. */
interface Absence {
  readonly from: number;
  until: number;
}

/** Writers, each with secrets of its own, that remember what they were told. */
class Writers {
  readonly reigns = new Map<string, Reign[]>();
  readonly absences = new Map<string, Absence[]>();
  readonly failed: unknown[] = [];
  readonly #done: Promise<unknown>;
  #isWriting = true;

  constructor(private readonly manager: SecretsManager) {
    this.#done = Promise.all(Array.from({ length: WRITERS }, (_, writer) => this.#write(writer)));
  }

  async stop(): Promise<void> {
    this.#isWriting = false;
    await this.#done;
  }

  async #write(writer: number): Promise<void> {
    let turn = 0;
    while (this.#isWriting) {
      turn += 1;
      try {
        await this.#turn(`writer-${writer}/${turn % SECRETS_EACH}`, `${CANARY} ${writer}:${turn}`);
      } catch (error) {
        this.failed.push(error);
      }
    }
  }

  async #turn(name: string, value: string): Promise<void> {
    const { manager } = this;
    const reigns = this.reigns.get(name) ?? [];
    this.reigns.set(name, reigns);
    const absences = this.absences.get(name) ?? [{ from: 0, until: Number.POSITIVE_INFINITY }];
    this.absences.set(name, absences);
    const last = reigns.at(-1);
    const isThere = last !== undefined && last.until === Number.POSITIVE_INFINITY;
    const from = performance.now();
    if (isThere && randomInt(10) === 0) {
      absences.push({ from, until: Number.POSITIVE_INFINITY });
      await manager.deleteSecret(name, { force: true });
      last.until = performance.now();
      return;
    }
    if (isThere && randomInt(5) === 0) {
      await manager.tag(name, { turn: 'tagged' });
      return;
    }
    // What is on its way may have come about already.
    const begun: Reign = { versionId: '', value, from, until: Number.POSITIVE_INFINITY };
    const place = reigns.push(begun) - 1;
    const versionId = isThere
      ? (await manager.putSecretValue(name, value)).versionId
      : ((await manager.createSecret(name, value)).versions[0]?.versionId ?? '');
    reigns[place] = { ...begun, versionId };
    if (isThere) last.until = performance.now();
    else for (const one of absences) one.until = Math.min(one.until, performance.now());
  }
}

/** Queries that follow the secret. */
class Queries {
  readonly failed: unknown[] = [];
  count = 0;
  #isAsking = true;
  readonly #done: Promise<unknown>;

  constructor(pool: LivePool) {
    const ask = async (): Promise<void> => {
      while (this.#isAsking) {
        await pool.query('SELECT pg_sleep(0.005)').catch((error: unknown) => this.failed.push(error));
        this.count += 1;
      }
    };
    this.#done = Promise.all([ask(), ask()]);
  }

  async stop(): Promise<void> {
    this.#isAsking = false;
    await this.#done;
  }
}

/** What is current once no rotation is under way. */
async function restingVersion(manager: SecretsManager): Promise<string> {
  for (;;) {
    const { rotation, versions } = await manager.describeSecret('ShopDb');
    const isAtRest = rotation?.step === undefined && rotation?.unretired.length === 0;
    const current = versions.find(({ stages }) => stages.includes('current'));
    if (isAtRest && rotation.instanceId === undefined && current !== undefined) return current.versionId;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function wrongOnes(restored: SecretsManager, { reigns, absences }: Writers, from: number, to: number) {
  const wrong: string[] = [];
  let compared = 0;
  for (const [name, all] of reigns) {
    const during = all.filter((one) => one.from <= to && one.until >= from);
    const current = await restored.getSecretValue<string>(name).catch((error: unknown) => {
      if (isSecretsError(error, 'SECRET_NOT_FOUND')) return undefined;
      throw error;
    });
    if (current === undefined) {
      const isRight = absences.get(name)?.some((one) => one.from <= to && one.until >= from);
      if (isRight !== true) wrong.push(`${name} is missing`);
      continue;
    }
    compared += 1;
    const isSo = ({ versionId, value }: { versionId: string; value: unknown }, among: readonly Reign[]): boolean =>
      among.some((one) => one.value === value && one.versionId === versionId);
    if (!isSo(current, during)) wrong.push(`${name} has ${current.versionId}, which was not current then`);
    for (const { versionId } of await restored.listVersions(name)) {
      const version = await restored.getSecretValue<string>(name, { versionId });
      if (!isSo(version, all)) wrong.push(`${name} has a ${versionId} that it never had`);
    }
  }
  return { wrong, compared };
}

describe('a backup that is taken while 16 writers and a rotating pool work', () => {
  it('is one that an application starts on, in another database and under other keys', async () => {
    const { identity, recipient } = await generateBackupIdentity();
    const shop = await openShop(
      sqliteStore({ path: path.join(folder, 'store.sqlite') }),
      localKeyFile({ path: path.join(folder, 'keys', 'local.key'), create: 'if-missing' }),
    );
    const writers = new Writers(shop.manager);
    const queries = new Queries(shop.pool);
    const rotations: string[] = [];
    shop.manager.rotationEvents$.subscribe(({ type }) => type === 'promoted' && rotations.push(type));
    while (writers.reigns.size < WRITERS * SECRETS_EACH || rotations.length < 3)
      await new Promise((resolve) => setTimeout(resolve, 20));

    const file = path.join(folder, 'under-load.age');
    const from = performance.now();
    const summary = await exportStore(shop.manager, { file, recipients: recipient });
    const to = performance.now();
    // While it goes on, but for the rotations: what was current then still is what the database takes.
    await shop.manager.pauseRotation('ShopDb');
    const quietFile = path.join(folder, 'not-rotating.age');
    // What had begun goes on for a while.
    for (let before = '', after = 'not looked at'; before !== after;) {
      before = await restingVersion(shop.manager);
      await exportStore(shop.manager, { file: quietFile, recipients: recipient, overwrite: true });
      after = await restingVersion(shop.manager);
    }
    await writers.stop();
    await queries.stop();
    expect(writers.failed).toEqual([]);
    expect(queries.failed).toEqual([]);
    expect(queries.count).toBeGreaterThan(20);
    await shop.pool.end();
    await apps.closeAll();

    const bytes = await readFile(file);
    const texts = new Map([['the canary', CANARY]]);
    expect(leaks(texts, new Map([['the backup', bytes.toString('utf8') + bytes.toString('latin1')]]))).toEqual([]);
    expect(await inspectBackup({ file, identity, signedBy: summary.signedBy })).toEqual(summary);

    const keys = ephemeralKeys();
    const restored = await openForRestore(postgresStore('restored'), keys);
    await importStore(restored, { file, identity, signedBy: summary.signedBy });
    const { wrong, compared } = await wrongOnes(restored, writers, from, to);
    expect(wrong).toEqual([]);
    // All but those that were away just then.
    expect(compared).toBeGreaterThan((WRITERS * SECRETS_EACH) / 2);
    expect((await restored.integrity.verifyStore()).findings).toEqual([]);
    // A pair of one version, never torn.
    const versions = await restored.listVersions('ShopDb');
    for (const { versionId } of versions) {
      const { value } = await restored.getSecretValue<DatabaseCredentials>('ShopDb', { versionId });
      expect(value).toMatchObject({ username: expect.stringMatching(/^shop_/), password: expect.any(String) });
    }
    await apps.closeAll();

    // Restored at once: the application serves, without a rotation.
    const quietKeys = ephemeralKeys();
    const quiet = await openForRestore(postgresStore('quiet'), quietKeys);
    await importStore(quiet, { file: quietFile, identity, signedBy: summary.signedBy });
    await apps.closeAll();
    const serving = await openShop(postgresStore('quiet'), quietKeys);
    expect((await serving.pool.query('SELECT session_user AS name')).rows[0].name).toBe(serving.creds.value.username);
    await serving.manager.rotateSecret('ShopDb', { until: 'retired' });
    await serving.creds.refresh();
    expect((await serving.pool.query('SELECT session_user AS name')).rows[0].name).toBe(serving.creds.value.username);
    await serving.pool.end();
    await apps.closeAll();

    // Restored when the database has moved on since: one rotation makes the two agree.
    const late = await openShop(postgresStore('restored'), keys);
    await late.manager.rotateSecret('ShopDb');
    await late.creds.refresh();
    expect((await late.pool.query('SELECT session_user AS name')).rows[0].name).toMatch(/^shop_/);
    await late.pool.end();
  }, 480_000);
});
