import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type DatabaseCredentials, SecretsManager } from '@nestjs-secrets/core';
import { type AppPlace, CREDENTIALS, LEDGER, partsAt, RotatingApp } from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

/** A file system of 2 MB; undefined where this account may not mount one. */
function smallDisk(): string | undefined {
  const folder = mkdtempSync(path.join(tmpdir(), 'nestjs-secrets-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=0700', 'tmpfs', folder], { stdio: 'ignore' });
    return folder;
  } catch {
    rmdirSync(folder);
    return undefined;
  }
}

const disk = smallDisk();
if (disk === undefined)
  process.stderr.write('SKIPPED the embedded store on a full disk: mounting a tmpfs needs root (CAP_SYS_ADMIN).\n');

(disk === undefined ? describe.skip : describe)('the embedded store on a full disk', () => {
  const folder = disk ?? '';
  const filler = path.join(folder, 'filler');
  let server: PostgresServer;
  let place: AppPlace;
  let app: INestApplicationContext;

  beforeAll(async () => {
    server = await startPostgres({ settings: { fsync: 'off' } });
    const { host, port, database, admin } = server;
    place = { folder, strategy: 'alternating-users', roleName: 'full', server: { host, port, database }, admin };
    app = await boot();
  });

  afterAll(async () => {
    await app?.close();
    await server?.stop();
    execFileSync('umount', [folder]);
    rmdirSync(folder);
  });

  const boot = (): Promise<INestApplicationContext> =>
    NestFactory.createApplicationContext(RotatingApp.with(place, partsAt(place)), {
      logger: false,
      abortOnError: false,
    });

  async function fillTheDisk(): Promise<void> {
    const { bavail, bsize } = await statfs(folder);
    await writeFile(filler, Buffer.alloc(bavail * bsize));
    expect((await statfs(folder)).bavail).toBe(0);
  }

  /** Puts until the store refuses: what it had set aside still takes a few. Gives the last one that was acknowledged. */
  async function putUntilRefused(manager: SecretsManager): Promise<{ acknowledged: number; refusal: unknown }> {
    for (let entry = 1; ; entry += 1) {
      try {
        await manager.putSecretValue(LEDGER, entry);
      } catch (refusal) {
        return { acknowledged: entry - 1, refusal };
      }
    }
  }

  it('I1 I9: says so, loses nothing, serves on, and goes on with rotations when there is space', async () => {
    const manager = app.get(SecretsManager);
    const { value: first } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    await fillTheDisk();
    const { acknowledged, refusal } = await putUntilRefused(manager);
    expect(refusal).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringContaining('disk is full') });
    expect(await manager.getSecretValue(LEDGER)).toMatchObject({ value: acknowledged });
    await expect(manager.rotateSecret(CREDENTIALS)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    const loggedInAs = async (): Promise<string> =>
      (await app.get(DataSource).query('SELECT session_user AS name'))[0].name;
    expect(await loggedInAs()).toBe(first.username);
    expect(await logIn(place.server, first)).toBe(first.username);

    await rm(filler);
    await eventually('the store takes writes again', async () =>
      manager.putSecretValue(LEDGER, acknowledged + 1).then(
        () => true,
        () => false,
      ),
    );
    await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
    expect(await logIn(place.server, first)).toBeUndefined();
    expect(await loggedInAs()).not.toBe(first.username);

    await app.close();
    app = await boot();
    expect(await app.get(SecretsManager).getSecretValue(LEDGER)).toMatchObject({ value: acknowledged + 1 });
    expect(await app.get(DataSource).query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });
});
