import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { cryptoRandomness, ephemeralKeys, type KeyProvider, localKeyFile } from '@nestjs-secrets/core';
import { keyProviderConformance, type KeyProviderHarness } from '../src/key-provider-conformance.js';
import { flawedKeys, KEY_FLAWS } from './flawed-key-providers.js';

const keyFileHarness = (change: (provider: KeyProvider) => KeyProvider = (same) => same): KeyProviderHarness => ({
  outlive: true,
  createKeys: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-conformance-'));
    const connect = (file: string) => (): KeyProvider => change(localKeyFile({ path: join(folder, file) }));
    return {
      connect: connect('own.json'),
      connectToOthers: connect('others.json'),
      dispose: () => rm(folder, { recursive: true }),
    };
  },
});

describe('the local key file', () => {
  for (const { name, run } of keyProviderConformance(keyFileHarness())) it(name, run);
});

describe('a broken provider', () => {
  it.each(Object.entries(KEY_FLAWS))('that %s fails the suite', async (_name, flaw) => {
    const cases = keyProviderConformance(keyFileHarness((sound) => flawedKeys(sound, flaw)));
    const failed: string[] = [];
    for (const { name, run } of cases.filter((one) => flaw.noticedBy.test(one.name)))
      await run().catch(() => failed.push(name));
    expect(failed).not.toEqual([]);
  });

  it('that has new keys each time it is opened fails the suite', async () => {
    const cases = keyProviderConformance({
      outlive: true,
      createKeys: async () => ({
        connect: () => freshAtOpen(),
        connectToOthers: () => freshAtOpen(),
        dispose: async () => undefined,
      }),
    });
    for (const name of [
      'has the same keys after close() and open()',
      'shares its keys with another provider that has them',
    ])
      await expect(cases.find((one) => one.name === name)?.run()).rejects.toThrow();
  });

  it('that shares keys with everybody fails the suite', async () => {
    const keys = ephemeralKeys(cryptoRandomness);
    const cases = keyProviderConformance({
      outlive: false,
      createKeys: async () => ({ connect: () => keys, connectToOthers: () => keys, dispose: async () => undefined }),
    });
    const others = cases.find((one) => one.name === 'opens nothing that was wrapped under other keys');
    await expect(others?.run()).rejects.toThrow();
  });
});

function freshAtOpen(): KeyProvider {
  let keys = ephemeralKeys();
  return {
    name: 'fresh at open',
    open: async () => {
      keys = ephemeralKeys();
    },
    close: () => keys.close(),
    active: () => keys.active(),
    wrap: (cmk, dataKey, place) => keys.wrap(cmk, dataKey, place),
    unwrap: (cmk, wrapped, place) => keys.unwrap(cmk, wrapped, place),
  };
}
