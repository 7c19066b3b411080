import { type StoreCommit, type StoreDriver, StoreUnavailableError } from '@nestjs-secrets/core';
import type { EventQueue } from './event-queue.js';
import { drawFate, type FaultRates, type Latency } from './fault-rates.js';
import type { SeededRandom } from './seeded-random.js';
import type { SimulatedProcess } from './simulated-process.js';
import { StoreContents } from './store-contents.js';

type Watcher = { readonly onHint: (hint: { keys?: readonly string[] }) => void; readonly prefixes?: readonly string[] };

export interface SimulatedStoreOptions {
  readonly queue: EventQueue;
  readonly random: SeededRandom;
  readonly latency: Latency;
  /** After so long a caller hears that the store did not answer. */
  readonly timeoutMs: number;
  /** Told of each commit that took effect, in that very moment. */
  readonly onCommit: (commit: StoreCommit, process: SimulatedProcess) => void;
  /** For mutation checks: changes what arrives at the store. */
  readonly tamper?: (commit: StoreCommit, process: SimulatedProcess) => StoreCommit;
}

/**
 * One store that all processes share: the memory driver's semantics behind a network that delays, loses, and leaves callers in doubt; whose hints come
 * late, twice, in any order, or not at all.
 */
export class SimulatedStore {
  faults: FaultRates;
  /** Nobody reaches it. */
  isDown = false;
  /** Who does not reach it. */
  readonly cutOff = new Set<SimulatedProcess>();
  /** What is stored, without a network in between. */
  readonly contents = new StoreContents();
  readonly #watchers = new Map<SimulatedProcess, Set<Watcher>>();

  constructor(
    private readonly options: SimulatedStoreOptions,
    faults: FaultRates,
  ) {
    this.faults = faults;
  }

  connect(process: SimulatedProcess): StoreDriver {
    const { contents } = this;
    return {
      name: 'simulated',
      open: async () => undefined,
      close: async () => void this.#watchers.delete(process),
      get: (key) => this.#call(process, 'get', () => contents.get(key)),
      list: (options) => this.#call(process, 'list', () => contents.list(options)),
      revision: () => this.#call(process, 'revision', () => contents.revision),
      commit: (commit) => this.#call(process, 'commit', () => this.#commit(commit, process)),
      watch: (onHint, prefixes) => {
        const watcher: Watcher = { onHint, prefixes };
        let watchers = this.#watchers.get(process);
        if (watchers === undefined) this.#watchers.set(process, (watchers = new Set()));
        watchers.add(watcher);
        const own = watchers;
        return () => void own.delete(watcher);
      },
    };
  }

  #commit(asked: StoreCommit, process: SimulatedProcess): number | undefined {
    const commit = this.options.tamper?.(asked, process) ?? asked;
    const revision = this.contents.commit(commit);
    if (revision === undefined || commit.writes.length === 0) return revision;
    this.options.onCommit(commit, process);
    this.#announce(commit.writes.map((write) => write.key));
    return revision;
  }

  #call<R>(process: SimulatedProcess, kind: string, effect: () => R): Promise<R> {
    const { queue, random, latency, timeoutMs } = this.options;
    return new Promise<R>((resolve, reject) => {
      if (!process.isAlive) return;
      const fate = drawFate(random, this.faults, latency);
      const giveUp = (afterMs: number): void => {
        const error = (): void => reject(new StoreUnavailableError('simulated', 'no answer'));
        queue.after(afterMs, 'store silent', () => process.deliver(error));
      };
      const arrive = (): void => {
        if (this.isDown || this.cutOff.has(process)) {
          giveUp(fate.backMs ?? timeoutMs);
          return;
        }
        const result = effect();
        const { backMs } = fate;
        if (backMs === undefined) giveUp(timeoutMs);
        else queue.after(backMs * process.distance, kind, () => process.deliver(() => resolve(result)));
      };
      if (fate.thereMs === undefined) giveUp(timeoutMs);
      else if (fate.thereMs === 0) arrive();
      else queue.after(fate.thereMs, 'arrive', arrive);
    });
  }

  #announce(keys: readonly string[]): void {
    const { queue, random, latency } = this.options;
    for (const [process, watchers] of this.#watchers) {
      if (!process.isAlive) {
        this.#watchers.delete(process);
        continue;
      }
      const concerned = [...watchers].filter(
        ({ prefixes }) =>
          prefixes === undefined || keys.some((key) => prefixes.some((prefix) => key.startsWith(prefix))),
      );
      if (concerned.length === 0 || this.isDown || this.cutOff.has(process)) continue;
      if (random.chance(this.faults.hintLost)) continue;
      const times = random.chance(this.faults.hintDoubled) ? 2 : 1;
      for (let time = 0; time < times; time += 1) {
        const delay = random.chance(this.faults.slow)
          ? random.between(0, latency.slowestMs)
          : random.between(0, latency.usualMs);
        queue.after(delay, 'hint', () =>
          process.deliver(() => {
            for (const { onHint } of concerned) onHint({ keys });
          }),
        );
      }
    }
  }
}
