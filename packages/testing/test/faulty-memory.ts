import { memoryStore, StoreUnavailableError, type StoreDriver, type StoreHint } from '@nestjs-secrets/core';
import type { StoreDriverHarness } from '../src/store-driver-conformance.js';

/** How a driver fares when the server of its store does. */
export interface Fate {
  /** What a call does while nobody reaches the server. */
  readonly away: () => Promise<never>;
  /** Whether watchers are told to look at everything afterwards. */
  readonly tellsAfterwards: boolean;
  /** What a crash leaves of the commits of before, given how many there are. */
  readonly keeps: (commits: number) => number;
}

export const SOUND: Fate = {
  away: () => Promise.reject(new StoreUnavailableError('faulty', 'could not be reached.')),
  tellsAfterwards: true,
  keeps: (commits) => commits,
};

/** Drivers on one memory that can be cut off, and lose what a crash takes by being made anew of the commits that it leaves. */
export function faultyHarness(fate: Fate): StoreDriverHarness {
  return {
    shared: true,
    faults: ['cut-off', 'crash'],
    async createStore() {
      const server = new MemoryServer(fate);
      await server.start();
      const away = async (): Promise<() => Promise<void>> => {
        server.isAway = true;
        return () => server.start();
      };
      return { connect: () => server.door(), dispose: async () => undefined, cutOff: away, crash: away };
    },
  };
}

type Watch = readonly [onHint: (hint: StoreHint) => void, prefixes: readonly string[] | undefined];

class MemoryServer {
  isAway = true;
  #data: StoreDriver = memoryStore();
  readonly #commits: Parameters<StoreDriver['commit']>[0][] = [];
  readonly #watches = new Set<Watch>();

  constructor(private readonly fate: Fate) {}

  /** Carries out again what the fate leaves of all commits, so that their revisions are the same. */
  async start(): Promise<void> {
    this.#data = memoryStore();
    await this.#data.open();
    this.#commits.splice(this.fate.keeps(this.#commits.length));
    for (const { writes } of this.#commits) await this.#data.commit({ conditions: [], writes });
    for (const watch of this.#watches) this.#data.watch(...watch);
    this.isAway = false;
    if (this.fate.tellsAfterwards) for (const [onHint] of this.#watches) onHint({});
  }

  door(): StoreDriver {
    const shut = memoryStore();
    const own = new Set<Watch>();
    let isOpen = false;
    const asked = async <R>(question: (store: StoreDriver) => Promise<R>): Promise<R> => {
      if (!isOpen) return question(shut);
      if (this.isAway) return this.fate.away();
      return question(this.#data);
    };
    return {
      name: 'faulty',
      open: async () => {
        if (this.isAway) await this.fate.away();
        isOpen = true;
      },
      close: async () => {
        isOpen = false;
        for (const watch of own) this.#watches.delete(watch);
      },
      get: (key) => asked((store) => store.get(key)),
      list: (options) => asked((store) => store.list(options)),
      revision: () => asked((store) => store.revision()),
      commit: (commit) =>
        asked(async (store) => {
          const revision = await store.commit(commit);
          if (revision !== undefined && commit.writes.length > 0) this.#commits.push(commit);
          return revision;
        }),
      watch: (onHint, prefixes) => {
        if (!isOpen) return shut.watch(onHint, prefixes);
        const watch: Watch = [(hint) => isOpen && onHint(hint), prefixes];
        own.add(watch);
        this.#watches.add(watch);
        const end = this.#data.watch(...watch);
        return () => {
          this.#watches.delete(watch);
          end();
        };
      },
    };
  }
}
