import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  type DatabaseCredentials,
  defineSecret,
  getSecretToken,
  localKeyFile,
  type Secret,
  SecretsManager,
  SecretsModule,
  type SecretsModuleOptions,
} from '@nestjs-secrets/core';
import { LivePool, postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { BAD_CREDENTIALS } from 'nestjs-secrets-test/chaos/bad-credentials';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { filter, firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import { guards } from './guards.js';
import { median, type Row } from './row.js';

const SECRET = 'BenchDbCreds';
const ROTATOR = 'bench/roles';
const WORKERS = 8;
/** What a rollback is held against. */
const LIMIT_MS = 2_000;

/**
 * From the first query that a new credential is refused after its promotion, its permission gone, until the last one: by then the version before is
 * back in the pool. Eight workers insert all the time; store and target are one PostgreSQL.
 */
export async function benchRollback({ rollbacks }: { readonly rollbacks: number }): Promise<Row[]> {
  const times = (await rollbackTimes(rollbacks)).toSorted((one, other) => one - other);
  const row = (name: string, value = Number.NaN): Row => ({
    name: `rollback: first → last refused query, ${name} of ${rollbacks}`,
    value,
    baseline: LIMIT_MS,
    ratio: value / LIMIT_MS,
    unit: 'ms',
  });
  return [row('the median', median(times)), row('the longest', times.at(-1))];
}

/** What each of so many rollbacks took, in milliseconds. */
export async function rollbackTimes(rollbacks: number, guarded = false): Promise<number[]> {
  const server = await startPostgres();
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  try {
    const app = benchApp(server, path.join(folder, 'keys.json'), guarded ? guards(folder, 'Bench') : {});
    return await measure(server, app, rollbacks);
  } finally {
    await server.stop();
    await rm(folder, { recursive: true });
  }
}

async function measure(server: PostgresServer, module: Type, rollbacks: number): Promise<number[]> {
  const app = await NestFactory.createApplicationContext(module, { logger: false });
  const manager = app.get(SecretsManager);
  const { host, port, database } = server;
  const credentials = app.get<Secret<DatabaseCredentials>>(getSecretToken(SECRET), { strict: false });
  const pool = new LivePool(credentials, { host, port, database, max: WORKERS });
  pool.on('error', () => undefined);
  const load = new Load(pool);
  const took: number[] = [];
  const [bad] = BAD_CREDENTIALS.values();
  if (bad === undefined) throw new Error('there is no bad credential');
  try {
    load.start();
    for (let round = 0; round < rollbacks; round += 1) {
      const { versionId } = await manager.rotateSecret(SECRET);
      const { value } = await manager.getSecretValue<DatabaseCredentials>(SECRET, { versionId });
      load.forget();
      const isPutBack = firstValueFrom(manager.rotationEvents$.pipe(filter(({ type }) => type === 'rolled-back')));
      await bad.spoil(server, value.username);
      await isPutBack;
      await load.servesAgain();
      took.push(load.refusedForMs());
      await bad.mend(server, value.username);
      await server.query('DROP POLICY readable ON payments; DROP POLICY writable ON payments');
      await untilRetired(manager);
    }
    return took;
  } finally {
    await load.stop();
    await pool.end();
    await app.close();
  }
}

/** Inserts without a pause, and remembers when it was refused. */
class Load {
  #isOver = false;
  #workers: Promise<void>[] = [];
  #refusals: number[] = [];
  #inserted = 0;

  constructor(private readonly pool: LivePool) {}

  start(): void {
    this.#workers = Array.from({ length: WORKERS }, () => this.#work());
  }

  forget(): void {
    this.#refusals = [];
  }

  /** Resolves when each worker has inserted some rows without being refused in between. */
  async servesAgain(): Promise<void> {
    for (let refusals = -1; refusals !== this.#refusals.length;) {
      refusals = this.#refusals.length;
      const enough = this.#inserted + 20 * WORKERS;
      while (this.#inserted < enough) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  refusedForMs(): number {
    const [first = Number.NaN] = this.#refusals;
    return (this.#refusals.at(-1) ?? Number.NaN) - first;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#workers);
  }

  async #work(): Promise<void> {
    while (!this.#isOver) {
      try {
        await this.pool.query('INSERT INTO payments (amount) VALUES (1)');
        this.#inserted += 1;
      } catch {
        this.#refusals.push(performance.now());
      }
    }
  }
}

async function untilRetired(manager: SecretsManager): Promise<void> {
  for (;;) {
    const { rotation } = await manager.describeSecret(SECRET);
    if (rotation?.step === undefined && rotation?.unretired.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function benchApp(server: PostgresServer, keys: string, guarded: Partial<SecretsModuleOptions>): Type {
  const { host, port, database, admin } = server;
  const { username, password } = admin;
  const rotator = postgresAlternatingUsers({
    name: ROTATOR,
    connection: { host, port, database },
    admin,
    baseName: 'bench',
    roles: 3,
    async prepare(client, ownerRole) {
      await client.query('CREATE TABLE IF NOT EXISTS payments (id bigserial PRIMARY KEY, amount int)');
      await client.query(`GRANT SELECT, INSERT ON payments TO ${ownerRole}`);
      await client.query(`GRANT USAGE ON SEQUENCE payments_id_seq TO ${ownerRole}`);
    },
  });
  const credentials = defineSecret<DatabaseCredentials>(SECRET, undefined, {
    initial: 'rotator',
    rotation: { rotator: ROTATOR, probation: '60s', maxFailures: 1_000 },
  });

  @Module({
    imports: [
      SecretsModule.forRoot({
        store: sqlStore(new DataSource({ type: 'postgres', host, port, database, username, password })),
        keys: localKeyFile({ path: keys, create: 'if-missing' }),
        rotators: [rotator],
        ...guarded,
      }),
      SecretsModule.forFeature([credentials]),
    ],
  })
  class App {}

  return App;
}
