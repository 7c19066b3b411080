import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  checkpointFile,
  ephemeralKeys,
  memoryStore,
  parseCheckpoint,
  SecretsManager,
  SecretsModule,
  type SharedAuditLog,
  sharedAuditLog,
  storeHeadsIn,
} from '@nestjs-secrets/core';
import { AuditWorld, KEY, ORIGIN, SIGNER } from './support/audit-world.js';

let world: AuditWorld;
let started: INestApplicationContext[];
beforeEach(async () => {
  world = await AuditWorld.create();
  started = [];
});
afterEach(async () => {
  await Promise.all(started.map((app) => app.close()));
  await world.remove();
});

async function start(name: string, audit: SharedAuditLog): Promise<INestApplicationContext> {
  const root = SecretsModule.forRoot({ principal: name, store: memoryStore(), keys: ephemeralKeys(), audit });
  const app = await NestFactory.createApplicationContext(root, { logger: false, abortOnError: false });
  started.push(app);
  return app;
}

const notes = async (): Promise<string[]> => {
  const found: string[] = [];
  for await (const note of checkpointFile({ path: world.beside }).notes()) found.push(note);
  return found;
};

describe('an audit log that several applications of a process share', () => {
  it('has the events of each in its name, until the last has stopped; and then begins where it ended', async () => {
    const audit = sharedAuditLog({
      origin: ORIGIN,
      key: KEY,
      folder: world.folder,
      checkpoints: { signer: SIGNER, places: world.places() },
    });
    const apps = await Promise.all([start('orders', audit), start('billing', audit)]);
    const [orders, billing] = apps.map((app) => app.get(SecretsManager));
    await Promise.all([orders?.createSecret('S', 1), billing?.createSecret('S', 2)]);
    await orders?.getSecretValue('S');
    await apps[0]?.close();
    await billing?.getSecretValue('S');
    expect((await billing?.audit.whoRead('S', 0))?.map(({ principalId }) => principalId)).toEqual([
      'application/billing',
      'application/orders',
    ]);
    const page = await billing?.audit.lookupEvents({ limit: 100 });
    const told = page?.events.map(({ event }) => `${event.userIdentity.principalId} ${event.eventName}`);
    expect(told).toEqual(expect.arrayContaining(['application/orders PoliciesOff', 'application/billing PoliciesOff']));
    await apps[1]?.close();

    const again = (await start('orders', audit)).get(SecretsManager);
    expect(await again.audit.verify()).toMatchObject({ verdict: 'intact' });
    expect((await again.audit.whoRead('S', 0)).length).toBe(2);
  });

  it('carries the state of each store in its checkpoints', async () => {
    const audit = sharedAuditLog({
      origin: ORIGIN,
      key: KEY,
      folder: world.folder,
      checkpoints: { signer: SIGNER, places: world.places(), everyEvents: 1 },
    });
    const apps = await Promise.all([start('orders', audit), start('billing', audit)]);
    for (const app of apps) await app.get(SecretsManager).createSecret('S', 1);
    await apps[0]?.close();
    await apps[1]?.get(SecretsManager).getSecretValue('S');
    await apps[1]?.close();
    const heads = (await notes()).map((note) => storeHeadsIn(parseCheckpoint(note, note).extensions));
    const stores = new Set(heads.flat().map(({ storeId }) => storeId));
    expect(stores.size).toBe(2);
    expect(heads.filter(({ length }) => length === 2).length).toBeGreaterThan(0);
    // Who has stopped has nothing more to say, and who is the last says it until the end.
    expect(heads.at(-1)).toHaveLength(1);
  });

  it('can be tried again when it could not be opened', async () => {
    await writeFile(world.folder, 'no folder').catch(() => undefined);
    const audit = sharedAuditLog({ origin: ORIGIN, key: KEY, folder: join(world.folder, 'log') });
    const both = await Promise.allSettled([start('orders', audit), start('billing', audit)]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await rm(world.folder, { recursive: true });
    await mkdir(world.folder, { mode: 0o700 });
    const manager = (await start('orders', audit)).get(SecretsManager);
    await manager.createSecret('S', 1);
    expect(await manager.audit.verify()).toMatchObject({ verdict: 'intact' });
  });

  it('needs a name and a key, since it belongs to no store', () => {
    expect(() => sharedAuditLog({ origin: ORIGIN, folder: world.folder } as never)).toThrow('a key of its own');
    expect(() => sharedAuditLog({ key: KEY, folder: world.folder } as never)).toThrow('an origin');
    expect(() => sharedAuditLog({ origin: ORIGIN, key: KEY })).toThrow('a folder, or sinks');
  });
});
