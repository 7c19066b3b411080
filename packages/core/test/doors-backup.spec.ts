import { afterEach, describe, expect, it } from '@jest/globals';
import { ephemeralKeys, memoryStore, principalOf } from '@nestjs-secrets/core';
import { contentOf, exported } from './support/backup-world.js';
import { denying, type DoorsWorld, makeDb, startDoors } from './support/doors-world.js';
import { startWorld } from './support/world.js';

let world: DoorsWorld;
afterEach(() => world.stop());

describe('the door of an export', () => {
  it('gives out no value that its caller may not have by any other', async () => {
    world = await startDoors({ statements: [denying('GetSecretValue', { Resource: 'secret/Db' })] });
    await makeDb(world);
    await world.manager.createSecret('Ab', 'before it');
    world.news();
    let isWritten = false;
    const attempt = world.manager.backup.exportStore(async (content) => {
      for await (const chunk of content) expect(Buffer.from(chunk).includes('first-password')).toBe(false);
      isWritten = true;
    });
    await expect(attempt).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    expect(isWritten).toBe(false);
    const events = world.news();
    expect(events).toMatchObject([
      { eventName: 'GetSecretValue', resourceName: 'Db', errorCode: 'AccessDenied' },
      { eventName: 'ExportStore', errorCode: 'AccessDenied' },
    ]);
  });

  it('is one that a backup operator can be let through, and nothing else', async () => {
    const isExport = { StringEquals: { 'secrets:Operation': 'exportValue' } };
    const operator = principalOf('operator', 'backup');
    world = await startDoors();
    await makeDb(world);
    await world.manager.policies.putPolicy({
      name: 'backup',
      principals: [operator.id],
      document: {
        Version: '1',
        Statement: [
          { Effect: 'Allow', Action: 'secrets:ExportStore', Resource: '*' },
          { Effect: 'Allow', Action: 'secrets:GetSecretValue', Resource: 'secret/*', Condition: isExport },
        ],
      },
    });
    const acting = world.manager.as(operator);
    expect((await exported(acting)).summary).toMatchObject({ secrets: 1 });
    await expect(acting.getSecretValue('Db')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });

  it('says in the log what was exported, and what was imported', async () => {
    world = await startDoors();
    await makeDb(world);
    world.news();
    const { bytes, summary } = await exported(world.manager);
    const { digest, signedBy, storeId } = summary;
    expect(world.news()).toMatchObject([
      { eventName: 'ExportStore', additionalEventData: { digest, signedBy, storeId, secrets: 1, leftOut: 0 } },
    ]);
    await world.manager.backup.importStore(contentOf(bytes), { signedBy, onConflict: 'skip' });
    expect(world.news()).toMatchObject([
      { eventName: 'ImportStore', requestParameters: { digest, signedBy, storeId, onConflict: 'skip' } },
    ]);
    const attempt = world.manager.backup.importStore(contentOf(bytes.subarray(0, -2)), { signedBy });
    await expect(attempt).rejects.toMatchObject({ code: 'BACKUP_INVALID' });
    expect(world.news()).toMatchObject([
      { eventName: 'ImportStore' },
      { eventName: 'ImportStore', errorCode: 'BACKUP_INVALID' },
    ]);
  });
});

describe('the door of an accepted restore', () => {
  it('takes the word of an operator, with his reason, once the database was put back', async () => {
    const [store, keys] = [memoryStore(), ephemeralKeys()];
    world = await startDoors();
    const first = await startWorld({ store, keys });
    await first.manager.createSecret('Db', 'one');
    const old = await store.list({ prefix: '', limit: 1000 });
    await first.manager.putSecretValue('Db', 'two');
    const fresh = await store.list({ prefix: '', limit: 1000 });
    await store.commit({
      conditions: [],
      writes: [
        ...fresh.filter(({ key }) => !old.some((one) => one.key === key)).map(({ key }) => ({ key, value: null })),
        ...old.map(({ key, value }) => ({ key, value })),
      ],
    });
    await expect(first.manager.getSecretValue('Db')).rejects.toMatchObject({ code: 'STORE_ROLLED_BACK' });
    await first.manager.integrity.acceptRestore({ reason: 'ticket 4711' });
    expect((await first.manager.getSecretValue('Db')).value).toBe('one');
    expect((await first.manager.integrity.verifyStore()).findings).toEqual([]);
    await first.runtime.close();
  });

  it('leaves an event that says why, and says where integrity is off', async () => {
    world = await startDoors();
    await world.manager.integrity.acceptRestore({ reason: 'ticket 4711' });
    expect(world.news()).toContainEqual(
      expect.objectContaining({
        eventName: 'AcceptRestore',
        requestParameters: expect.objectContaining({ reason: 'ticket 4711' }),
      }),
    );
    const off = await startWorld({ integrity: false });
    const attempt = off.manager.integrity.acceptRestore({ reason: 'why not' });
    await expect(attempt).rejects.toMatchObject({ code: 'INTEGRITY_OPTIONS_INVALID' });
    await off.runtime.close();
  });
});
