import { setImmediate as nextTurn } from 'node:timers/promises';
import { memoryStore, type StoreDriver, StoreUnavailableError } from '@nestjs-secrets/core';

/** What a process is about to do to a store, or has just done. */
export type Effect = (side: 'before' | 'after', store: string) => void | Promise<void>;

/** A database that outlives the processes on it; each has a door of its own. */
export class Database {
  readonly #data = memoryStore();

  constructor(readonly name: string) {}

  async start(): Promise<this> {
    await this.#data.open();
    return this;
  }

  /** The way of one process to it. `effect` sees each commit; a process that is dead gets no further. */
  door(process: Process = new Process()): StoreDriver {
    const data = this.#data;
    const ends = new Set<() => void>();
    const reached = async <R>(ask: () => Promise<R>): Promise<R> => {
      await process.alive(this.name);
      const answer = await ask();
      await process.alive(this.name);
      return answer;
    };
    return {
      name: this.name,
      open: async () => undefined,
      close: async () => {
        for (const end of ends) end();
      },
      get: (key) => reached(() => data.get(key)),
      list: (options) => reached(() => data.list(options)),
      revision: () => reached(() => data.revision()),
      commit: (commit) =>
        reached(async () => {
          await process.effect('before', this.name);
          await process.alive(this.name);
          const revision = await data.commit(commit);
          await process.effect('after', this.name);
          return revision;
        }),
      watch: (onHint, prefixes) => {
        const end = data.watch((hint) => {
          if (!process.isDead && process.hears()) onHint(hint);
        }, prefixes);
        ends.add(end);
        return end;
      },
    };
  }

  /** Everything in it but what belongs to the move. */
  async contents(): Promise<Map<string, string>> {
    const entries = await this.#data.list({ prefix: '', limit: 1000 });
    return new Map(
      entries
        .filter(({ key }) => !key.startsWith('moving/'))
        .map(({ key, value }) => [key, Buffer.from(value).toString('latin1')]),
    );
  }

  get(key: string): ReturnType<StoreDriver['get']> {
    return this.#data.get(key);
  }

  async put(key: string, value: string | null): Promise<void> {
    await this.#data.commit({ conditions: [], writes: [{ key, value: value === null ? null : Buffer.from(value) }] });
  }
}

/** A process, as its stores see it. */
export class Process {
  isDead = false;
  effect: Effect = () => undefined;
  /** How many turns of the event loop a message takes. */
  delay: () => number = () => 0;
  /** Whether the next hint gets to it. */
  hears: () => boolean = () => true;

  async alive(store: string): Promise<void> {
    for (let turn = this.delay(); turn > 0; turn -= 1) await nextTurn();
    if (this.isDead) throw new StoreUnavailableError(store, 'is out of reach: this process is dead.');
  }
}
