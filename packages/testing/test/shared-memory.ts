import { memoryStore, type StoreDriver } from '@nestjs-secrets/core';
import type { StoreDriverHarness } from '../src/store-driver-conformance.js';

/** Drivers that stand for processes on one database: one memory store behind several doors, each opened and closed on its own. */
export function sharedHarness(around: (driver: StoreDriver) => StoreDriver = (driver) => driver): StoreDriverHarness {
  return {
    shared: true,
    async createStore() {
      const data = memoryStore();
      await data.open();
      return { connect: () => around(door(data)), dispose: () => data.close() };
    },
  };
}

function door(data: StoreDriver): StoreDriver {
  const shut = memoryStore();
  const ends = new Set<() => void>();
  let inner = shut;
  return {
    name: 'door',
    async open() {
      inner = data;
    },
    async close() {
      inner = shut;
      for (const end of ends) end();
    },
    get: async (key) => inner.get(key),
    list: async (options) => inner.list(options),
    commit: (commit) => inner.commit(commit),
    revision: async () => inner.revision(),
    watch(onHint, prefixes) {
      const end = inner.watch(onHint, prefixes);
      ends.add(end);
      return end;
    },
  };
}
