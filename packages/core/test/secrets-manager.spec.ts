import { describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { ephemeralKeys, memoryStore, type StoreDriver } from '@nestjs-secrets/core';
import { startWorld } from './support/world.js';

describe('SecretsManager', () => {
  it.each([
    ['a string', 'text'],
    ['an empty string', ''],
    ['null', null],
    ['a number', 4.5],
    ['an object', { a: [1, { b: true }], ü: '✓' }],
    ['an object with the key __proto__', JSON.parse('{"__proto__": {"admin": true}}')],
    ['bytes', new Uint8Array([0, 255, 128])],
  ])('gives back %s', async (_label, value) => {
    const { manager } = await startWorld();
    await manager.createSecret('S', value);
    expect((await manager.getSecretValue('S')).value).toEqual(value);
  });

  it.each([
    '',
    ' ',
    'a b',
    'ä',
    '../x\\',
    'x'.repeat(193),
    7 as unknown as string,
    undefined as unknown as string,
    'a:b',
    'a\n',
  ])('refuses the name %j everywhere', async (name) => {
    const { manager } = await startWorld();
    const calls = [
      () => manager.createSecret(name, 1),
      () => manager.getSecretValue(name),
      () => manager.putSecretValue(name, 1),
      () => manager.describeSecret(name),
      () => manager.listVersions(name),
      () => manager.updateVersionStage(name, 'mine', 'v1'),
      () => manager.updateSecret(name, {}),
      () => manager.updateRotationPolicy(name, null),
      () => manager.rotateSecret(name),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'SECRET_NAME_INVALID' });
  });

  it('takes names that mean something elsewhere as plain labels', async () => {
    const { manager } = await startWorld();
    for (const name of ['__proto__', 'constructor', '../../etc/passwd', 'x'.repeat(192), '/', 'a@b.c=d+e']) {
      await manager.createSecret(name, name);
      expect((await manager.getSecretValue(name)).value).toBe(name);
    }
  });

  it('says when there is no such secret, or one already', async () => {
    const { manager } = await startWorld();
    await expect(manager.getSecretValue('S')).rejects.toMatchObject({ code: 'SECRET_NOT_FOUND', secretName: 'S' });
    await manager.createSecret('S', 1);
    await expect(manager.createSecret('S', 2)).rejects.toMatchObject({ code: 'SECRET_EXISTS' });
    expect((await manager.getSecretValue('S')).value).toBe(1);
  });

  it('holds 65,536 bytes and not one more', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', new Uint8Array(65_536));
    await expect(manager.putSecretValue('S', new Uint8Array(65_537))).rejects.toMatchObject({
      code: 'VALUE_TOO_LARGE',
    });
    await expect(manager.putSecretValue('S', 'x'.repeat(65_535))).rejects.toMatchObject({ code: 'VALUE_TOO_LARGE' });
    await manager.putSecretValue('S', 'x'.repeat(65_534));
    expect((await manager.getSecretValue<string>('S')).value.length).toBe(65_534);
  });

  it('refuses what JSON cannot carry, without showing it', async () => {
    const { manager } = await startWorld();
    const circular: Record<string, unknown> = { password: 'canary-1f' };
    circular['self'] = circular;
    for (const value of [undefined, () => 'canary-1f', Symbol('canary-1f'), 1n, circular]) {
      const error = await manager.createSecret('S', value).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'VALUE_INVALID' });
      expect(inspect(error)).not.toContain('canary');
    }
  });

  it('takes the same version twice, and refuses another value under its id', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', { a: 1, b: 2 }, { versionId: 'mine' });
    await manager.putSecretValue('S', { b: 2, a: 1 }, { versionId: 'mine' });
    await expect(manager.putSecretValue('S', { a: 2 }, { versionId: 'mine' })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    });
    await expect(manager.putSecretValue('S', 1, { versionId: 'not one' })).rejects.toMatchObject({
      code: 'VERSION_ID_INVALID',
    });
    expect(await manager.listVersions('S')).toHaveLength(1);
  });

  it('does not trip over a version that was named like a generated one', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', 1, { versionId: 'v2' });
    const versions = [await manager.putSecretValue('S', 2), await manager.putSecretValue('S', 3)];
    expect(new Set(['v2', ...versions.map(({ versionId }) => versionId)]).size).toBe(3);
    expect((await manager.getSecretValue('S', { versionId: 'v2' })).value).toBe(1);
  });

  it('moves current and previous in one commit', async () => {
    const store = memoryStore();
    const { manager } = await startWorld({ store });
    await manager.createSecret('S', 1);
    const before = await store.revision();
    await manager.putSecretValue('S', 2);
    expect(await store.revision()).toBe(before + 1);
    expect((await manager.getSecretValue('S', { stage: 'previous' })).value).toBe(1);
    expect((await manager.getSecretValue('S', { stage: 'current' })).value).toBe(2);
  });

  it('loses no put when many come at once', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', -1);
    const put = await Promise.all(Array.from({ length: 15 }, (_, value) => manager.putSecretValue('S', value)));
    expect(new Set(put.map(({ versionId }) => versionId)).size).toBe(15);
    expect((await manager.getSecretValue('S', { stage: 'previous' })).versionId).not.toBe(
      (await manager.getSecretValue('S')).versionId,
    );
  });

  it('has stages of the user, and guards its own', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', 1);
    await manager.putSecretValue('S', 2, { stages: ['canary', 'blue'] });
    expect((await manager.getSecretValue('S')).value).toBe(1);
    expect((await manager.getSecretValue('S', { stage: 'canary' })).value).toBe(2);
    await manager.updateVersionStage('S', 'blue', 'v1');
    await manager.updateVersionStage('S', 'canary', null);
    await expect(manager.getSecretValue('S', { stage: 'canary' })).rejects.toMatchObject({ code: 'VERSION_NOT_FOUND' });
    await expect(manager.getSecretValue('S', { stage: 'blue', versionId: 'v2' })).rejects.toMatchObject({
      code: 'VERSION_NOT_FOUND',
    });
    for (const [stage, versionId] of [
      ['current', null],
      ['previous', null],
      ['previous', 'v1'],
      ['pending', 'v1'],
      ['not a stage', 'v1'],
    ] as const) {
      await expect(manager.updateVersionStage('S', stage, versionId)).rejects.toMatchObject({ code: 'STAGE_INVALID' });
    }
    await expect(manager.putSecretValue('S', 3, { stages: ['previous'] })).rejects.toMatchObject({
      code: 'STAGE_INVALID',
    });
    await expect(manager.updateVersionStage('S', 'current', 'v9')).rejects.toMatchObject({ code: 'VERSION_NOT_FOUND' });
  });

  it('lists by name, a page at a time', async () => {
    const { manager } = await startWorld();
    const names = Array.from({ length: 25 }, (_, n) => `app/${String(n).padStart(2, '0')}`);
    for (const name of [...names, 'other']) await manager.createSecret(name, 1);
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const page = await manager.listSecrets({ prefix: 'app/', limit: 10, ...(after === undefined ? {} : { after }) });
      seen.push(...page.items.map(({ name }) => name));
      after = page.next;
    } while (after !== undefined);
    expect(seen).toEqual(names);
    expect((await manager.listSecrets()).items).toHaveLength(26);
  });

  it('keeps few old versions, but every one with a stage', async () => {
    const store = memoryStore();
    const { manager } = await startWorld({ store });
    await manager.createSecret('S', 0);
    await manager.updateVersionStage('S', 'golden', 'v1');
    for (let value = 1; value <= 40; value += 1) await manager.putSecretValue('S', value);
    const versions = await manager.listVersions('S');
    expect(versions).toHaveLength(13);
    expect(versions[0]).toMatchObject({ versionId: 'v1', stages: ['golden'] });
    expect((await store.list({ prefix: 'value/', limit: 100 })).length).toBe(13);
  });

  it('describes a secret without its value', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', 'canary-2b', {
      description: 'what',
      type: 'api-key',
      tags: { team: 'a' },
      ttl: '30d',
    });
    await manager.updateSecret('S', { tags: { team: 'b' } });
    const description = await manager.describeSecret('S');
    expect(description).toMatchObject({
      name: 'S',
      description: 'what',
      type: 'api-key',
      tags: { team: 'b' },
      ttlMs: 2_592_000_000,
    });
    expect(description.versions).toMatchObject([{ versionId: 'v1', stages: ['current'], state: 'live' }]);
    expect(JSON.stringify(description)).not.toContain('canary');
    await expect(manager.updateSecret('S', { ttl: 0 })).rejects.toMatchObject({ code: 'VALUE_INVALID' });
  });

  it('does not give out a value past its TTL', async () => {
    const { manager, clock } = await startWorld();
    await manager.createSecret('S', 1, { ttl: '1m' });
    await manager.putSecretValue('S', 2, { ttl: '1h' });
    await clock.advance(60_000);
    await expect(manager.getSecretValue('S', { stage: 'previous' })).rejects.toMatchObject({ code: 'SECRET_EXPIRED' });
    expect((await manager.getSecretValue('S')).value).toBe(2);
  });

  it('prints a value it gave back without the value', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('S', 'canary-3c');
    const version = await manager.getSecretValue('S');
    expect(version.value).toBe('canary-3c');
    expect(
      inspect(version, { depth: 9, showHidden: true }) + JSON.stringify({ version }) + String(version),
    ).not.toContain('canary');
  });

  it('keeps no value in the clear in its store', async () => {
    const store = memoryStore();
    const { manager } = await startWorld({ store });
    await manager.createSecret('S', { password: 'canary-4d-in-the-store' });
    const bytes = Buffer.concat((await store.list({ prefix: '', limit: 100 })).map(({ value }) => Buffer.from(value)));
    expect(bytes.includes('canary')).toBe(false);
    expect(bytes.includes(Buffer.from('canary-4d-in-the-store').toString('base64').slice(0, 20))).toBe(false);
  });
});

describe('a damaged or foreign store', () => {
  it('fails for the one secret whose record is corrupt and serves the others', async () => {
    const store = memoryStore();
    const { manager } = await startWorld({ store });
    for (const name of ['A', 'B', 'C']) await manager.createSecret(name, 'canary-5e');
    await overwrite(store, 'secret/A', Buffer.from('{"password":"canary'));
    const sealed = await store.get('value/B:v1');
    const damaged = Buffer.from(sealed?.value ?? []);
    damaged[damaged.length - 20] = (damaged.at(-20) ?? 0) ^ 1;
    await overwrite(store, 'value/B:v1', damaged);
    for (const name of ['A', 'B']) {
      const error = await manager.getSecretValue(name).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'RECORD_CORRUPT', secretName: name });
      expect(inspect(error)).not.toContain('canary');
    }
    expect((await manager.getSecretValue('C')).value).toBe('canary-5e');
  });

  it('does not take an envelope that belongs to another secret or version', async () => {
    const store = memoryStore();
    const { manager } = await startWorld({ store });
    await manager.createSecret('A', 'a1');
    await manager.putSecretValue('A', 'a2');
    await manager.createSecret('B', 'b1');
    for (const from of ['value/B:v1', 'value/A:v1']) {
      await overwrite(store, 'value/A:v2', (await store.get(from))?.value ?? new Uint8Array());
      await expect(manager.getSecretValue('A')).rejects.toMatchObject({ code: 'RECORD_CORRUPT' });
    }
  });

  it('does not start with the wrong key', async () => {
    const store = memoryStore();
    const first = await startWorld({ store });
    await first.manager.createSecret('A', 1);
    await expect(startWorld({ store: reopened(store), keys: ephemeralKeys() })).rejects.toMatchObject({
      code: 'KEY_MISMATCH',
    });
  });

  it('does not start without a store or keys', async () => {
    const { SecretsRuntime } = await import('../src/module/secrets-runtime.js');
    await expect(SecretsRuntime.start({ store: memoryStore() }, { set: () => () => undefined })).rejects.toMatchObject({
      code: 'MODULE_OPTIONS_INVALID',
    });
  });
});

async function overwrite(store: StoreDriver, key: string, value: Uint8Array): Promise<void> {
  await store.commit({ conditions: [], writes: [{ key, value }] });
}

function reopened(store: StoreDriver): StoreDriver {
  return {
    ...store,
    name: store.name,
    open: async () => undefined,
    close: async () => undefined,
    get: (key) => store.get(key),
    list: (o) => store.list(o),
    commit: (c) => store.commit(c),
    revision: () => store.revision(),
    watch: (l) => store.watch(l),
  };
}
