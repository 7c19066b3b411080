import { describe, expect, it } from '@jest/globals';
import {
  cryptoRandomness,
  ephemeralKeys,
  type KeyProvider,
  randomIds,
  type StoreDriver,
  StoreIntegrity,
  systemClock,
} from '@nestjs-secrets/core';
import { storeDriverConformance, type StoreDriverHarness } from '../src/store-driver-conformance.js';
import { sharedHarness } from './shared-memory.js';

/** What a sealed store promises in another way, and why. */
const OTHERWISE: Readonly<Record<string, string>> = {
  'starts at revision 0 and grows with every commit that writes': 'making the manifest is a commit',
  'never gives a revision twice, also when a key is made again': 'commits that share one have its revision',
  'never gives one revision to commits of two drivers': 'commits that share one have its revision',
  'keeps values byte for byte: every byte, none, and the largest': 'the largest value is smaller by the seal',
  'keeps everything over close and open': 'the largest value is smaller by the seal',
  'refuses keys out of range with STORE_REQUEST_INVALID': 'expects revision 0 afterwards',
  'refuses limits, revisions and values out of range with STORE_REQUEST_INVALID': 'expects revision 0 afterwards',
  'refuses a commit that writes a key twice, and does nothing of it': 'expects revision 0 afterwards',
};

function sealedHarness(): StoreDriverHarness {
  const inner = sharedHarness();
  return {
    ...inner,
    async createStore(willFail) {
      const store = await inner.createStore(willFail);
      const keys = ephemeralKeys();
      return { connect: () => sealed(store.connect(), keys), dispose: () => store.dispose() };
    },
  };
}

/** Opens what a process opens; the first entry of the store is left out of lists, since it is not what a case has put there. */
function sealed(driver: StoreDriver, keys: KeyProvider): StoreDriver {
  const integrity = new StoreIntegrity({ store: driver, clock: systemClock, randomness: cryptoRandomness });
  const { store } = integrity;
  return {
    name: store.name,
    async open() {
      await store.open();
      await integrity.open({ keys, randomness: cryptoRandomness, newStoreId: randomIds.next(), now: Date.now() });
    },
    close: () => integrity.close(),
    get: (key) => store.get(key),
    async list(options) {
      const page = await store.list(options);
      const isFirst = page.some(({ key }) => key === 'store');
      if (!isFirst) return page;
      const last = page.at(-1)?.key ?? '';
      const next = page.length < options.limit ? [] : await store.list({ ...options, after: last, limit: 1 });
      return [...page.filter(({ key }) => key !== 'store'), ...next];
    },
    commit: (commit) => store.commit(commit),
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
  };
}

describe('a sealed store is a store driver', () => {
  const cases = storeDriverConformance(sealedHarness()).filter(({ name }) => !name.startsWith('attack'));

  for (const { name, run } of cases) if (!(name in OTHERWISE)) it(name, run);

  it('but for what it promises otherwise', () => {
    const names = new Set(cases.map(({ name }) => name));
    expect(Object.keys(OTHERWISE).filter((name) => !names.has(name))).toEqual([]);
  });
});
