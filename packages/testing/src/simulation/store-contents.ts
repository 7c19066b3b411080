import {
  checkCommit,
  checkKey,
  checkList,
  type StoreCommit,
  type StoreEntry,
  type StoreListOptions,
} from '@nestjs-secrets/core';

/**
 * What a simulated store holds: the semantics of the memory driver without its promises and copies, which a world of some hundred events
 * would mostly consist of. simulation-store.spec.ts holds it against the memory driver.
 */
export class StoreContents {
  readonly #entries = new Map<string, StoreEntry>();
  /** Every key in order; undefined after a key came or went, until the next listing. */
  #order: string[] | undefined;
  #revision = 0;

  get revision(): number {
    return this.#revision;
  }

  get(key: string): StoreEntry | undefined {
    checkKey(key);
    return this.#entries.get(key);
  }

  list(options: StoreListOptions): StoreEntry[] {
    checkList(options);
    const { prefix, after = '', limit } = options;
    this.#order ??= [...this.#entries.keys()].sort();
    const found: StoreEntry[] = [];
    for (const key of this.#order) {
      if (found.length === limit) break;
      const entry = key > after && key.startsWith(prefix) ? this.#entries.get(key) : undefined;
      if (entry !== undefined) found.push(entry);
    }
    return found;
  }

  commit(commit: StoreCommit): number | undefined {
    checkCommit(commit);
    for (const { key, revision } of commit.conditions)
      if ((this.#entries.get(key)?.revision ?? 0) !== revision) return undefined;
    if (commit.writes.length === 0) return this.#revision;
    this.#revision += 1;
    for (const { key, value } of commit.writes) {
      if ((value !== null) !== this.#entries.has(key)) this.#order = undefined;
      if (value === null) this.#entries.delete(key);
      else this.#entries.set(key, { key, value, revision: this.#revision });
    }
    return this.#revision;
  }
}
