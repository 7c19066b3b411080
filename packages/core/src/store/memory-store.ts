import { StoreClosedError } from '../foundation/errors.js';
import { HintListeners } from './hint-listeners.js';
import type { StoreCommit, StoreDriver, StoreEntry, StoreHint, StoreListOptions } from './store-driver.js';
import { checkCommit, checkKey, checkList } from './store-request.js';

/** A store that lives and dies with this process: for tests, and for secrets that are made anew at every start. */
export function memoryStore(): StoreDriver {
  return new MemoryStore();
}

class MemoryStore implements StoreDriver {
  readonly name = 'memory';
  readonly #entries = new Map<string, StoreEntry>();
  readonly #listeners = new HintListeners();
  /** Every key in order; undefined after a key came or went, until the next listing. */
  #order: string[] | undefined;
  #revision = 0;
  #isOpen = false;

  async open(): Promise<void> {
    this.#isOpen = true;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    this.#listeners.clear();
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#mustBeOpen();
    checkKey(key);
    const entry = this.#entries.get(key);
    return entry && copy(entry);
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    this.#mustBeOpen();
    checkList(options);
    const { prefix, after = '', limit } = options;
    this.#order ??= [...this.#entries.keys()].sort();
    const order = this.#order;
    const found: StoreEntry[] = [];
    const start = after >= prefix ? firstIndex(order, (key) => key > after) : firstIndex(order, (key) => key >= prefix);
    for (let index = start; index < order.length && found.length < limit; index++) {
      const entry = this.#entries.get(order[index] ?? '');
      if (entry === undefined || !entry.key.startsWith(prefix)) break;
      found.push(copy(entry));
    }
    return found;
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    this.#mustBeOpen();
    checkCommit(commit);
    const holds = commit.conditions.every(({ key, revision }) => (this.#entries.get(key)?.revision ?? 0) === revision);
    if (!holds) return undefined;
    if (commit.writes.length === 0) return this.#revision;
    this.#revision += 1;
    for (const { key, value } of commit.writes) {
      if ((value !== null) !== this.#entries.has(key)) this.#order = undefined;
      if (value === null) this.#entries.delete(key);
      else this.#entries.set(key, copy({ key, value, revision: this.#revision }));
    }
    this.#listeners.announce({ keys: commit.writes.map((write) => write.key) });
    return this.#revision;
  }

  async revision(): Promise<number> {
    this.#mustBeOpen();
    return this.#revision;
  }

  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    this.#mustBeOpen();
    return this.#listeners.add(onHint, prefixes);
  }

  #mustBeOpen(): void {
    if (!this.#isOpen) throw new StoreClosedError(this.name);
  }
}

function copy(entry: StoreEntry): StoreEntry {
  return { key: entry.key, value: new Uint8Array(entry.value), revision: entry.revision };
}

/** The first index whose key passes `test`, in a list where all keys after a passing one pass too. */
function firstIndex(keys: readonly string[], test: (key: string) => boolean): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (test(keys[middle] ?? '')) high = middle;
    else low = middle + 1;
  }
  return low;
}
