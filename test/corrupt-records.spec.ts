import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule, type StoreDriver } from '@nestjs-secrets/core';
import { BootedApps } from './support/booted-apps.js';
import { CANARY, expectFailure } from './support/expect-failure.js';

const apps = new BootedApps();
afterEach(() => apps.closeAll());

describe('a store with one corrupt record', () => {
  const open = async (store: StoreDriver, keys = ephemeralKeys()): Promise<SecretsManager> =>
    (await apps.boot(SecretsModule.forRoot({ store, keys }))).get(SecretsManager);

  /** Turns one bit of an entry round, at a place given as a part of its length. */
  async function flip(store: StoreDriver, key: string, at: number): Promise<void> {
    const entry = await store.get(key);
    if (entry === undefined) throw new Error(`no entry ${key}`);
    const value = Uint8Array.from(entry.value);
    const index = Math.min(value.length - 1, Math.floor(value.length * at));
    value[index] = (value[index] ?? 0) ^ 1;
    await store.commit({ conditions: [], writes: [{ key, value }] });
  }

  let store: StoreDriver;
  let manager: SecretsManager;

  beforeEach(async () => {
    store = memoryStore();
    manager = await open(store);
    await manager.createSecret('Sound', 'sound');
    await manager.createSecret('Token', CANARY);
    await manager.createSecret('Zuletzt', 'sound too');
  });
  afterEach(async () => {
    expect((await manager.getSecretValue('Sound')).value).toBe('sound');
    await manager.putSecretValue('Sound', 'sounder');
    expect((await manager.getSecretValue('Zuletzt')).value).toBe('sound too');
  });

  it.each([0, 0.1, 0.25, 0.5, 0.75, 0.99])(
    'in its envelope, at %d of its length: only this secret fails',
    async (at) => {
      await flip(store, 'value/Token:v1', at);
      await expectFailure(() => manager.getSecretValue('Token'), ['RECORD_CORRUPT', 'KEY_MISMATCH']);
      await manager.putSecretValue('Token', 'a new value');
      expect((await manager.getSecretValue('Token')).value).toBe('a new value');
    },
  );

  it('in its head: only this secret fails', async () => {
    await flip(store, 'secret/Token', 0);
    await expectFailure(() => manager.getSecretValue('Token'), 'RECORD_CORRUPT');
    await expectFailure(() => manager.putSecretValue('Token', CANARY), 'RECORD_CORRUPT');
  });

  it('does not keep the list of the others away', async () => {
    await flip(store, 'secret/Token', 0);
    const { items } = await manager.listSecrets();
    expect(items.map(({ name }) => name)).toEqual(expect.arrayContaining(['Sound', 'Zuletzt']));
  });

  it('taken from another secret: refused, since it is bound to its place', async () => {
    const foreign = await store.get('value/Sound:v1');
    await store.commit({ conditions: [], writes: [{ key: 'value/Token:v1', value: foreign?.value ?? null }] });
    await expectFailure(() => manager.getSecretValue('Token'), ['RECORD_CORRUPT', 'KEY_MISMATCH']);
  });

  it('in its rotation journal: only its rotation fails', async () => {
    await store.commit({ conditions: [], writes: [{ key: 'rotation/Token', value: Buffer.from('{') }] });
    await manager.updateRotationPolicy('Sound', { rotator: 'any' });
    await expectFailure(() => manager.rotateSecret('Token'), 'RECORD_CORRUPT');
    expect((await manager.getSecretValue('Token')).value).toBe(CANARY);
  });
});
