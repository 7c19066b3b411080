import { describe, expect, it } from '@jest/globals';
import { memoryStore, type StoreDriver } from '@nestjs-secrets/core';
import { storeDriverConformance, type StoreDriverHarness } from '../src/store-driver-conformance.js';
import { faultyHarness, SOUND } from './faulty-memory.js';
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

const ABOUT_FAULTS = /nobody reaches its server|after its server was out of reach|over crashes/;

describe('drivers on a server that fails', () => {
  const cases = storeDriverConformance(faultyHarness(SOUND)).filter(({ name }) => ABOUT_FAULTS.test(name));
  for (const { name, run } of cases) it(name, run);

  it('are not asked for what their harness cannot do', () => {
    const { faults: _, ...harness } = faultyHarness(SOUND);
    expect(storeDriverConformance(harness).filter(({ name }) => ABOUT_FAULTS.test(name))).toEqual([]);
  });
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

  it.each([
    [
      'that fails with an error of its own in an outage',
      { ...SOUND, away: () => Promise.reject(new Error('ECONNREFUSED')) },
      /refuses every call .*refused/,
    ],
    [
      'that says nothing to its watchers after an outage',
      { ...SOUND, tellsAfterwards: false },
      /after its server was out of reach \(silent\)/,
    ],
    [
      'that loses the last commits it acknowledged at a crash',
      { ...SOUND, keeps: (commits: number) => Math.max(0, commits - 8) },
      /over crashes/,
    ],
  ])('%s fails the suite', async (_name, fate, noticedBy) => {
    expect(await failures(faultyHarness(fate), noticedBy)).not.toEqual([]);
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
