import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  type AuditSink,
  auditEvents,
  auditFiles,
  auditFolder,
  type DatabaseCredentials,
  SecretsManager,
} from '@nestjs-secrets/core';
import { type AppPlace, CREDENTIALS, LEDGER, partsAt, RotatingApp } from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

/** Long enough that no machine which is busy with other things takes as long over an event. */
const LIMIT_MS = 3_000;

/** The files of the log on a file system that hangs when it is told to: calls are taken in and never answered, until it is well again. */
class HangingFiles {
  readonly sink: AuditSink;
  #isHanging = false;
  #release: () => void = () => undefined;
  #hung: Promise<void> = Promise.resolve();

  constructor(folder: string) {
    const files = auditFiles({ folder });
    this.sink = {
      name: files.name,
      reader: files.reader,
      open: (context) => files.open(context),
      close: () => files.close(),
      append: async (records) => {
        if (this.#isHanging) await this.#hung;
        await files.append(records);
      },
    };
  }

  hang(): void {
    this.#isHanging = true;
    this.#hung = new Promise((resolve) => (this.#release = resolve));
  }

  recover(): void {
    this.#isHanging = false;
    this.#release();
  }
}

let server: PostgresServer;
let home: string;
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: 'off' } });
});
afterAll(() => server?.stop());

interface Outage {
  begin(): Promise<void> | void;
  end(): Promise<void> | void;
}

describe.each(['gone', 'hanging'] as const)('an application whose required audit files are %s', (kind) => {
  let app: INestApplicationContext;
  let place: AppPlace;
  let outage: Outage;
  let folder: string;

  beforeAll(async () => {
    home = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-outage-'));
    folder = path.join(home, 'audit');
    const { host, port, admin } = server;
    const database = `outage_${kind}`;
    await server.query(`CREATE DATABASE ${database}`);
    place = {
      folder: home,
      strategy: 'alternating-users',
      roleName: database,
      server: { host, port, database },
      admin,
    };
    const hanging = new HangingFiles(folder);
    outage =
      kind === 'gone'
        ? { begin: () => rename(folder, `${folder}-away`), end: () => rename(`${folder}-away`, folder) }
        : { begin: () => hanging.hang(), end: () => hanging.recover() };
    const audit = { sinks: [{ sink: hanging.sink, mode: 'required' as const }], timeLimitMs: LIMIT_MS };
    app = await NestFactory.createApplicationContext(RotatingApp.with(place, { ...partsAt(place), audit }), {
      logger: false,
      abortOnError: false,
    });
  });

  afterAll(async () => {
    await app?.close();
    await rm(home, { recursive: true, force: true });
  });

  it('I8 says so at every operation, does none of them, serves every query, and needs no restart', async () => {
    const manager = app.get(SecretsManager);
    const dataSource = app.get(DataSource);
    await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
    const { value: credentials, versionId } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    let [isRunning, queries] = [true, 0];
    const failures: unknown[] = [];
    const query = async (): Promise<void> => {
      // One failure is enough to fail the test, and a pool that only fails would let nothing else run.
      while (isRunning && failures.length === 0) {
        try {
          await dataSource.query('SELECT pg_sleep(0.005)');
          queries += 1;
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const load = Promise.all(Array.from({ length: 8 }, query));

    await outage.begin();
    const unavailable = { code: 'AUDIT_UNAVAILABLE', message: expect.stringContaining('it did not happen') };
    await expect(manager.getSecretValue(LEDGER)).rejects.toMatchObject(unavailable);
    await expect(manager.putSecretValue(LEDGER, 7)).rejects.toMatchObject(unavailable);
    await expect(manager.rotateSecret(CREDENTIALS)).rejects.toMatchObject(unavailable);
    await expect(manager.policies.listPolicies()).rejects.toMatchObject(unavailable);
    await expect(manager.audit.lookupEvents()).rejects.toMatchObject(unavailable);
    expect(() => manager.getRandomPassword()).toThrow(expect.objectContaining({ code: 'AUDIT_UNAVAILABLE' }));
    expect(manager.audit.health()).toMatchObject([{ status: 'failing' }]);
    // Fresh connections too: what the pool holds is good, and it needs nobody's leave to use it.
    expect(await logIn(place.server, credentials)).toBe(credentials.username);
    const before = queries;
    await eventually('queries went on', () => queries > before + 50);

    await outage.end();
    await eventually('the log takes events again', async () =>
      manager.getSecretValue(LEDGER).then(
        () => true,
        () => false,
      ),
    );
    expect(await manager.getSecretValue(LEDGER)).toMatchObject({ value: 0 });
    expect(await manager.getSecretValue(CREDENTIALS)).toMatchObject({ versionId });
    await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
    expect(await logIn(place.server, credentials)).toBeUndefined();
    isRunning = false;
    await load;
    expect(failures).toEqual([]);

    const { verdict, records } = await manager.audit.verify();
    expect(verdict).toBe('intact');
    const events = [];
    for await (const found of auditEvents(auditFolder(folder))) events.push(found);
    expect(events.length).toBeGreaterThanOrEqual(records);
    // What was refused is told, and counts as not done.
    const outages = events.filter(({ event }) => event.eventName === 'AuditOutage');
    expect(outages.length).toBeGreaterThan(0);
    const puts = events.filter(({ event }) => event.eventName === 'PutSecretValue');
    expect(puts.every(({ outcome }) => outcome === 'failure')).toBe(true);
    const reports = events.filter(({ event }) => event.eventName === 'RotationReport');
    expect(reports.map(({ event }) => event.additionalEventData?.['outcome'])).toEqual([
      'retired',
      'retired',
      'promoted',
    ]);
  }, 120_000);
});
