import type { StoreCommit, StoreDriver, StoreEntry, StoreListOptions } from '@nestjs-secrets/core';

/** A store in memory whose bytes can be changed behind everybody's back, and that can be put back to how it was in the time of the changes. */
export class FuzzedStore {
  #entries = new Map<string, StoreEntry>();
  #order: string[] | undefined;
  #revision = 0;
  /** What stood under the keys that were touched since the last `mark`; undefined for nothing. */
  #touched = new Map<string, StoreEntry | undefined>();

  /** From here on, changes can be undone. */
  mark(): void {
    this.#touched.clear();
  }

  undo(): void {
    for (const [key, entry] of this.#touched) {
      if (entry === undefined) this.#entries.delete(key);
      else this.#entries.set(key, entry);
    }
    this.#order = undefined;
    this.#touched.clear();
  }

  get(key: string): StoreEntry | undefined {
    return this.#entries.get(key);
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }

  /** Changes an entry as somebody does who writes to the database by other means; the revision may stay what it was. */
  tamper(key: string, value: Uint8Array | undefined, keepsRevision: boolean): void {
    this.#touch(key);
    const revision = this.#entries.get(key)?.revision;
    if (value === undefined) this.#entries.delete(key);
    else
      this.#entries.set(key, {
        key,
        value,
        revision: keepsRevision && revision !== undefined ? revision : (this.#revision += 1),
      });
    this.#order = undefined;
  }

  /** A driver on this store; opening and closing do nothing. */
  driver(): StoreDriver {
    return {
      name: 'fuzzed memory',
      open: async () => undefined,
      close: async () => undefined,
      get: async (key) => copy(this.#entries.get(key)),
      list: async (options) => this.#list(options),
      commit: async (commit) => this.#commit(commit),
      revision: async () => this.#revision,
      watch: () => () => undefined,
    };
  }

  #list({ prefix, after = '', limit }: StoreListOptions): StoreEntry[] {
    this.#order ??= [...this.#entries.keys()].sort();
    const found: StoreEntry[] = [];
    for (const key of this.#order) {
      if (found.length === limit) break;
      const entry = key > after && key.startsWith(prefix) ? copy(this.#entries.get(key)) : undefined;
      if (entry !== undefined) found.push(entry);
    }
    return found;
  }

  #commit({ conditions, writes }: StoreCommit): number | undefined {
    if (conditions.some(({ key, revision }) => (this.#entries.get(key)?.revision ?? 0) !== revision)) return undefined;
    if (writes.length === 0) return this.#revision;
    this.#revision += 1;
    for (const { key, value } of writes) {
      this.#touch(key);
      if (value === null) this.#entries.delete(key);
      else this.#entries.set(key, { key, value: new Uint8Array(value), revision: this.#revision });
    }
    this.#order = undefined;
    return this.#revision;
  }

  #touch(key: string): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.#entries.get(key));
  }
}

function copy(entry: StoreEntry | undefined): StoreEntry | undefined {
  return entry && { ...entry, value: new Uint8Array(entry.value) };
}
