/** What a store holds under one key. */
export interface StoreEntry {
  readonly key: string;
  readonly value: Uint8Array;
  /** The store's revision in the commit that wrote this entry. Always above 0. */
  readonly revision: number;
}

/** Holds when the entry under `key` still has this revision; revision 0 means that there is no such entry. */
export interface StoreCondition {
  readonly key: string;
  readonly revision: number;
}

/** Puts `value` under `key`, or removes the entry when `value` is null. */
export interface StoreWrite {
  readonly key: string;
  readonly value: Uint8Array | null;
}

/** Everything in one commit happens, durably, or nothing of it does. A key is written at most once in a commit. */
export interface StoreCommit {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
}

/** "Look again": the keys that may have changed, or every key when `keys` is missing. May be lost, doubled or late. */
export interface StoreHint {
  readonly keys?: readonly string[];
}

export interface StoreListOptions {
  /** Only keys that begin with this; the empty string means all. */
  readonly prefix: string;
  /** Only keys that sort after this one. */
  readonly after?: string;
  /** At most this many entries, 1–1000. */
  readonly limit: number;
}

/**
 * The port under the secrets manager: an ordered key-value space with multi-key compare-and-set and a watch. All meaning (versions,
 * stages, journals) is written once above it, so a driver stays tiny. It is done when it passes `storeDriverConformance` of
 * `@nestjs-secrets/testing`.
 *
 * Keys are 1–512 printable ASCII characters without the space (`!`…`~`), ordered by byte. Values are 0–1,048,576 bytes.
 *
 * Errors: `StoreUnavailableError` when the store cannot be reached or did not answer (the caller cannot know whether a commit happened);
 * `StoreClosedError` after `close()` or before `open()`; never an error that carries a value.
 */
export interface StoreDriver {
  /** For messages and health, such as `memory` or `sql (better-sqlite3)`. */
  readonly name: string;
  /** Creates what the store needs and connects. Called once, before anything else. */
  open(): Promise<void>;
  /** Ends every connection and timer; watchers hear nothing more. May be called twice. */
  close(): Promise<void>;
  get(key: string): Promise<StoreEntry | undefined>;
  /** The entries under `prefix` in key order, as of one moment. */
  list(options: StoreListOptions): Promise<StoreEntry[]>;
  /**
   * Applies all writes when all conditions hold, and resolves once they would survive kill -9 (where the store is durable at all).
   * Returns the new revision of the store, which is also that of each written entry; undefined when a condition did not hold.
   */
  commit(commit: StoreCommit): Promise<number | undefined>;
  /** The revision of the latest commit; 0 for a store never written. Grows with every commit that writes and never falls. */
  revision(): Promise<number>;
  /**
   * Hints about commits of this and, as far as the store can, of other processes. The function returned ends the watch. With `prefixes`
   * only changes under one of them are of interest: a driver may then keep quiet about all others, or tell of them as well.
   */
  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void;
}
