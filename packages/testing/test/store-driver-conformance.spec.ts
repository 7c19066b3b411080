import { describe, expect, it } from '@jest/globals';
import { memoryStore, type StoreCommit, type StoreDriver, type StoreEntry, type StoreHint } from '@nestjs-secrets/core';
import { storeDriverConformance, type StoreDriverHarness } from '../src/store-driver-conformance.js';

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

/** A memory driver with one flaw, and a word from the name of a case that must notice. */
const FLAWS: Record<
  string,
  { readonly flaw: (driver: StoreDriver) => Partial<StoreDriver>; readonly noticedBy: RegExp }
> = {
  'loses writes': {
    flaw: (driver) => ({ commit: (commit) => driver.commit({ ...commit, writes: [] }) }),
    noticedBy: /returns what was put/,
  },
  'ignores conditions': {
    flaw: (driver) => ({ commit: (commit) => driver.commit({ ...commit, conditions: [] }) }),
    noticedBy: /one condition does not hold/,
  },
  'judges only the first condition': {
    flaw: (driver) => ({ commit: (commit) => driver.commit({ ...commit, conditions: commit.conditions.slice(0, 1) }) }),
    noticedBy: /one condition does not hold/,
  },
  'judges conditions before it takes turns': {
    flaw: (driver) => ({
      async commit(commit) {
        if ((await driver.commit({ ...commit, writes: [] })) === undefined) return undefined;
        return driver.commit({ ...commit, conditions: [] });
      },
    }),
    noticedBy: /loses none of many concurrent increments/,
  },
  'writes one key after the other': {
    flaw: (driver) => ({
      async commit(commit) {
        const [first, ...others] = commit.writes;
        if (first === undefined) return driver.commit(commit);
        let revision = await driver.commit({ ...commit, writes: [first] });
        for (const write of others) revision = await driver.commit({ conditions: [], writes: [write] });
        return revision;
      },
    }),
    noticedBy: /lists as of one moment while commits go on/,
  },
  'moves the revision when nothing was written': {
    flaw: (driver) => ({
      async commit(commit) {
        const revision = await driver.commit(commit);
        return revision !== undefined && commit.writes.length === 0
          ? driver.commit({ conditions: [], writes: [{ key: 'x', value: null }] })
          : revision;
      },
    }),
    noticedBy: /judges conditions without writing/,
  },
  'counts revisions for each key anew': {
    flaw: (driver) => {
      const counts = new Map<string, number>();
      return {
        async commit(commit) {
          const revision = await driver.commit({ ...commit, conditions: [] });
          for (const { key, value } of commit.writes) {
            if (value === null) counts.delete(key);
            else counts.set(key, (counts.get(key) ?? 0) + 1);
          }
          return revision && (counts.get(commit.writes[0]?.key ?? '') ?? revision);
        },
      };
    },
    noticedBy: /never gives a revision twice/,
  },
  'takes % for a wildcard': {
    flaw: (driver) => ({
      async list(options) {
        const all = await driver.list({ ...options, prefix: options.prefix.split('%')[0] ?? '' });
        return all.slice(0, options.limit);
      },
    }),
    noticedBy: /never a pattern/,
  },
  'sorts like a dictionary': {
    flaw: (driver) => ({
      list: async (options) => (await driver.list(options)).sort((a, b) => a.key.localeCompare(b.key, 'en')),
    }),
    noticedBy: /order of bytes/,
  },
  'ignores the cursor': {
    flaw: (driver) => ({ list: ({ prefix, limit }) => driver.list({ prefix, limit }) }),
    noticedBy: /after a cursor/,
  },
  'includes the cursor': {
    flaw: (driver) => ({
      async list(options) {
        const at = options.after?.startsWith(options.prefix) ? await driver.get(options.after) : undefined;
        return [...(at ? [at] : []), ...(await driver.list(options))].slice(0, options.limit);
      },
    }),
    noticedBy: /after a cursor/,
  },
  'stops at 100 entries': {
    flaw: (driver) => ({ list: (options) => driver.list({ ...options, limit: Math.min(options.limit, 100) }) }),
    noticedBy: /a thousand entries/,
  },
  'stores text': {
    flaw: (driver) => ({
      commit: (commit) =>
        driver.commit(
          mapValues(
            commit,
            (value) => new Uint8Array(Buffer.from(new TextDecoder().decode(value).replaceAll('\0', ''))),
          ),
        ),
    }),
    noticedBy: /byte for byte/,
  },
  'takes an empty value for a removal': {
    flaw: (driver) => ({
      commit: (commit) => driver.commit(mapValues(commit, (value) => (value.length === 0 ? null : value))),
    }),
    noticedBy: /byte for byte/,
  },
  'stores the whole buffer under a view': {
    flaw: (driver) => ({
      commit: (commit) => driver.commit(mapValues(commit, (value) => new Uint8Array(value.buffer))),
    }),
    noticedBy: /view into a larger buffer/,
  },
  'reads the caller’s bytes late': {
    flaw: (driver) => ({
      async commit(commit) {
        await Promise.resolve();
        return driver.commit(commit);
      },
    }),
    noticedBy: /copies bytes/,
  },
  'hands out its own bytes': {
    flaw: (driver) => {
      const kept = new Map<string, StoreEntry>();
      return {
        async get(key) {
          const entry = await driver.get(key);
          if (entry === undefined) return undefined;
          const known = kept.get(key);
          if (known?.revision === entry.revision) return known;
          kept.set(key, entry);
          return entry;
        },
      };
    },
    noticedBy: /copies bytes/,
  },
  'folds case': {
    flaw: (driver) => ({ get: (key) => driver.get(key.toLowerCase()) }),
    noticedBy: /returns what was put/,
  },
  'takes any request': {
    flaw: (driver) => ({
      get: async (key) => driver.get(key).catch(() => undefined),
    }),
    noticedBy: /refuses keys out of range/,
  },
  'never hints': {
    flaw: () => ({ watch: () => () => undefined }),
    noticedBy: /hints at its own commits/,
  },
  'never stops hinting': {
    flaw: (driver) => ({
      watch(onHint) {
        driver.watch(onHint);
        return () => undefined;
      },
    }),
    noticedBy: /whose watch has ended/,
  },
  'hints from within the commit': {
    flaw: (driver) => {
      const listeners: ((hint: StoreHint) => void)[] = [];
      return {
        commit(commit) {
          for (const listener of listeners) listener({});
          return driver.commit(commit);
        },
        watch(onHint) {
          listeners.push(onHint);
          return driver.watch(onHint);
        },
      };
    },
    noticedBy: /from within the commit/,
  },
  'forgets that it was closed': {
    flaw: (driver) => ({ close: async () => void (await driver.revision().catch(() => 0)) }),
    noticedBy: /STORE_CLOSED/,
  },
  'cannot be closed twice': {
    flaw: (driver) => {
      let closed = 0;
      return {
        async close() {
          closed += 1;
          await driver.close();
          if (closed === 2) throw new Error('closed twice');
        },
      };
    },
    noticedBy: /closed.* twice/,
  },
};

describe('a broken driver', () => {
  it.each(Object.entries(FLAWS))('that %s fails the suite', async (_name, { flaw, noticedBy }) => {
    const harness = { ...memoryHarness(() => broken(flaw)), hintWithinMs: 50 };
    const relevant = storeDriverConformance(harness).filter((one) => noticedBy.test(one.name));
    const failed: string[] = [];
    for (const one of relevant) await one.run().catch(() => failed.push(one.name));
    expect(failed).not.toEqual([]);
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

function broken(flaw: (driver: StoreDriver) => Partial<StoreDriver>): StoreDriver {
  const driver = memoryStore();
  return {
    name: 'broken',
    open: () => driver.open(),
    close: () => driver.close(),
    get: (key) => driver.get(key),
    list: (options) => driver.list(options),
    commit: (commit) => driver.commit(commit),
    revision: () => driver.revision(),
    watch: (onHint) => driver.watch(onHint),
    ...flaw(driver),
  };
}

function mapValues(commit: StoreCommit, change: (value: Uint8Array) => Uint8Array | null): StoreCommit {
  const writes = commit.writes.map(({ key, value }) => ({ key, value: value === null ? null : change(value) }));
  return { ...commit, writes };
}

/** Drivers that stand for processes on one database: one memory store behind several doors, each opened and closed on its own. */
function sharedHarness(): StoreDriverHarness {
  return {
    shared: true,
    async createStore() {
      const data = memoryStore();
      await data.open();
      return { connect: () => door(data), dispose: () => data.close() };
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
    watch(onHint) {
      const end = inner.watch(onHint);
      ends.add(end);
      return end;
    },
  };
}
