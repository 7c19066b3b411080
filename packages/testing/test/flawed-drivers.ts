import type { StoreCommit, StoreDriver, StoreEntry, StoreHint } from '@nestjs-secrets/core';

export interface Flaw {
  /** What the flawed driver does in another way than the sound one it stands on. */
  readonly flaw: (driver: StoreDriver) => Partial<StoreDriver>;
  readonly noticedBy: RegExp;
}

/** A memory driver with one flaw, and a word from the name of a case that must notice. */
export const FLAWS: Record<string, Flaw> = {
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
  'judges the first hundred conditions': {
    flaw: (driver) => ({
      commit: (commit) => driver.commit({ ...commit, conditions: commit.conditions.slice(0, 100) }),
    }),
    noticedBy: /two hundred conditions/,
  },
  'pages by position': {
    flaw: (driver) => {
      const positions = new Map<string, number>();
      return {
        async list({ prefix, after, limit }) {
          const all = await driver.list({ prefix, limit: 1000 });
          const start = after === undefined ? 0 : (positions.get(after) ?? 0);
          const page = all.slice(start, start + limit);
          const last = page.at(-1);
          if (last !== undefined) positions.set(last.key, start + page.length);
          return page;
        },
      };
    },
    noticedBy: /pages through what stays, once and in order, while it writes/,
  },
  'goes deaf when narrowed': {
    flaw: (driver) => ({
      watch: (onHint, prefixes) => (prefixes === undefined ? driver.watch(onHint) : () => undefined),
    }),
    noticedBy: /a narrowed watch at whatever/,
  },
  'hears the first prefix only': {
    flaw: (driver) => ({ watch: (onHint, prefixes) => driver.watch(onHint, prefixes?.slice(0, 1)) }),
    noticedBy: /a narrowed watch at whatever/,
  },
  'takes a prefix for a whole segment': {
    flaw: (driver) => ({
      watch: (onHint, prefixes) =>
        driver.watch(
          onHint,
          prefixes?.map((prefix) => (prefix.endsWith('/') ? prefix : `${prefix}/`)),
        ),
    }),
    noticedBy: /a narrowed watch at whatever/,
  },
  'narrows every watch to the latest': {
    flaw: (driver) => {
      let latest: readonly string[] | undefined;
      return {
        watch(onHint, prefixes) {
          latest = prefixes;
          return driver.watch(({ keys }) => {
            const heard = keys?.filter((key) => latest?.some((prefix) => key.startsWith(prefix)) ?? true);
            if (heard?.length !== 0) onHint(heard === undefined ? {} : { keys: heard });
          });
        },
      };
    },
    noticedBy: /narrows no watch but the one that asked/,
  },
  'ends every watch with one': {
    flaw: (driver) => {
      const ends: (() => void)[] = [];
      return {
        watch(onHint, prefixes) {
          ends.push(driver.watch(onHint, prefixes));
          return () => ends.forEach((end) => end());
        },
      };
    },
    noticedBy: /narrowed watches that are left/,
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

function mapValues(commit: StoreCommit, change: (value: Uint8Array) => Uint8Array | null): StoreCommit {
  const writes = commit.writes.map(({ key, value }) => ({ key, value: value === null ? null : change(value) }));
  return { ...commit, writes };
}

export function flawed(driver: StoreDriver, { flaw }: Flaw): StoreDriver {
  return {
    name: 'flawed',
    open: () => driver.open(),
    close: () => driver.close(),
    get: (key) => driver.get(key),
    list: (options) => driver.list(options),
    commit: (commit) => driver.commit(commit),
    revision: () => driver.revision(),
    watch: (onHint, prefixes) => driver.watch(onHint, prefixes),
    ...flaw(driver),
  };
}
