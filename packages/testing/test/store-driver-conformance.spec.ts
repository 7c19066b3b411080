import { describe, expect, it } from '@jest/globals';
import { memoryStore, type StoreDriver } from '@nestjs-secrets/core';
import { storeDriverConformance, type StoreDriverHarness } from '../src/store-driver-conformance.js';
import { flawed, FLAWS } from './flawed-drivers.js';
import { SHARED_FLAWS } from './flawed-sharing.js';
import { sharedHarness } from './shared-memory.js';

const memoryHarness = (connect: () => StoreDriver): StoreDriverHarness => ({
  shared: false,
  createStore: async () => ({ connect, dispose: async () => undefined }),
});

describe('the memory store', () => {
  for (const { name, run } of storeDriverConformance(memoryHarness(memoryStore))) it(name, run);
});

describe('drivers on shared data', () => {
  for (const { name, run } of storeDriverConformance(sharedHarness())) it(name, run);
});

describe('a broken driver', () => {
  const failures = async (harness: StoreDriverHarness, noticedBy: RegExp): Promise<string[]> => {
    const relevant = storeDriverConformance({ ...harness, hintWithinMs: 50 }).filter((one) => noticedBy.test(one.name));
    const failed: string[] = [];
    for (const one of relevant) await one.run().catch(() => failed.push(one.name));
    return failed;
  };

  it.each(Object.entries(FLAWS))('that %s fails the suite', async (_name, flaw) => {
    const harness = memoryHarness(() => flawed(memoryStore(), flaw));
    expect(await failures(harness, flaw.noticedBy)).not.toEqual([]);
  });

  it.each(Object.entries(SHARED_FLAWS))('on shared data that %s fails the suite', async (_name, flaw) => {
    const harness = sharedHarness((door) => flawed(door, flaw));
    expect(await failures(harness, flaw.noticedBy)).not.toEqual([]);
  });

  it('that keeps nothing over close and open fails the suite', async () => {
    const cases = storeDriverConformance({
      shared: true,
      createStore: async () => ({ connect: memoryStore, dispose: async () => undefined }),
    });
    const durable = cases.find((one) => one.name === 'keeps everything over close and open');
    await expect(durable?.run()).rejects.toThrow();
  });
});
