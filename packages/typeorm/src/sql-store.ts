import {
  checkCommit,
  checkKey,
  checkList,
  HintListeners,
  isSecretsError,
  redactError,
  StoreClosedError,
  StoreUnavailableError,
  systemClock,
  type Cancel,
  type StoreCommit,
  type StoreDriver,
  type StoreEntry,
  type StoreHint,
  type StoreListOptions,
} from '@nestjs-secrets/core';
import { DataSource } from 'typeorm';
import { PostgresBackend } from './postgres-backend.js';
import { DEFAULT_TABLE, StoreOptionsError, type SqlBackend } from './sql-backend.js';
import { SqliteBackend } from './sqlite-backend.js';

export interface SqlStoreOptions {
  /** `nestjs_secrets` by default; made when it is not there. On PostgreSQL it may begin with a schema and a dot. */
  readonly table?: string;
  /** How often to look for commits of other processes while somebody watches, in milliseconds; 1000 by default. */
  readonly pollIntervalMs?: number;
}

export interface SqliteStoreOptions extends SqlStoreOptions {
  /** The database file; made when it is not there, in a folder that is. */
  readonly path: string;
}

/**
 * A store in one table of the database behind a TypeORM DataSource (better-sqlite3 or postgres). On PostgreSQL it takes connections from the
 * DataSource's pool, which it initialises if nobody else has, and then destroys on close. On SQLite it opens the DataSource's file once
 * more for itself, with `synchronous=FULL`, and leaves the DataSource alone.
 * @throws StoreOptionsError for another kind of database, SQLite in memory, or an option out of range.
 */
export function sqlStore(dataSource: DataSource, options: SqlStoreOptions = {}): StoreDriver {
  const { options: source } = dataSource;
  const table = options.table ?? DEFAULT_TABLE;
  if (source.type === 'postgres') return new SqlStore(new PostgresBackend(dataSource, source.schema, table), options);
  if (source.type === 'better-sqlite3') {
    // The class of the DataSource at hand, since an application may have more than one version of TypeORM.
    return new SqlStore(new SqliteBackend(dataSource.constructor as typeof DataSource, source, table), options);
  }
  throw new StoreOptionsError(`sqlStore works with better-sqlite3 and postgres, not with ${source.type}.`);
}

/**
 * The embedded default: a store in a SQLite file of its own, where what was committed survives kill -9 and loss of power. Several processes
 * of one machine may share the file. Needs the packages typeorm and better-sqlite3.
 * @throws StoreOptionsError for an option out of range.
 */
export function sqliteStore(options: SqliteStoreOptions): StoreDriver {
  const source = { type: 'better-sqlite3', database: options.path } as const;
  return new SqlStore(new SqliteBackend(DataSource, source, options.table ?? DEFAULT_TABLE), options);
}

interface WaitingCommit {
  readonly commit: StoreCommit;
  readonly resolve: (revision: number | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Commits with more bytes than this do not wait for company, so that a transaction stays a few megabytes. */
const BATCH_BYTES = 4_194_304;

class SqlStore implements StoreDriver {
  readonly name: string;
  readonly #listeners = new HintListeners();
  readonly #pollIntervalMs: number;
  readonly #underWay = new Set<Promise<unknown>>();
  #waiting: WaitingCommit[] = [];
  #isCommitting = false;
  #state: 'new' | 'open' | 'closed' = 'new';
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #cancelPoll: Cancel | undefined;
  /** Watchers have been told of every commit up to this revision. */
  #toldRevision = 0;

  constructor(
    private readonly backend: SqlBackend,
    options: SqlStoreOptions,
  ) {
    this.name = backend.name;
    this.#pollIntervalMs = options.pollIntervalMs ?? 1000;
    if (!Number.isFinite(this.#pollIntervalMs) || this.#pollIntervalMs < 1) {
      throw new StoreOptionsError(`pollIntervalMs is ${this.#pollIntervalMs}: use milliseconds, 1 or more.`);
    }
  }

  async open(): Promise<void> {
    if (this.#state === 'closed') throw new StoreClosedError(this.name);
    this.#opening ??= this.#openOnce().finally(() => (this.#opening = undefined));
    await this.#opening;
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeOnce();
    return this.#closing;
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#mustBeOpen();
    checkKey(key);
    return this.#ask(() => this.backend.get(key));
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    this.#mustBeOpen();
    checkList(options);
    const { prefix, after = '', limit } = options;
    return this.#ask(() => this.backend.list({ from: prefix, after, until: endOfPrefix(prefix), limit }));
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    this.#mustBeOpen();
    checkCommit(commit);
    const copy = {
      conditions: commit.conditions.map((condition) => ({ ...condition })),
      writes: commit.writes.map(({ key, value }) => ({ key, value: value && Buffer.from(value) })),
    };
    return new Promise((resolve, reject) => {
      this.#waiting.push({ commit: copy, resolve, reject });
      if (!this.#isCommitting) void this.#track(this.#commitWaiting());
    });
  }

  async revision(): Promise<number> {
    this.#mustBeOpen();
    return this.#ask(() => this.backend.revision());
  }

  watch(onHint: (hint: StoreHint) => void): () => void {
    this.#mustBeOpen();
    const end = this.#listeners.add(onHint);
    this.#pollLater();
    return end;
  }

  async #openOnce(): Promise<void> {
    this.#toldRevision = await this.#ask(async () => {
      await this.backend.open();
      return this.backend.revision();
    });
    if (this.#state === 'new') this.#state = 'open';
  }

  async #closeOnce(): Promise<void> {
    this.#state = 'closed';
    this.#cancelPoll?.();
    this.#listeners.clear();
    for (const { reject } of this.#waiting) reject(new StoreClosedError(this.name));
    this.#waiting = [];
    await Promise.allSettled(this.#underWay);
    await this.backend.close();
  }

  /**
   * Everyone who waits for a commit shares the next transaction: the price of a transaction is one sync of the disk, however much is in it.
   */
  async #commitWaiting(): Promise<void> {
    this.#isCommitting = true;
    try {
      while (this.#waiting.length > 0) {
        // Lets callers join, and lets a process that commits without a pause do its other work in between.
        await new Promise((resolve) => setImmediate(resolve));
        const batch = this.#takeBatch();
        if (batch.length > 0) await this.#commitBatch(batch);
      }
    } finally {
      this.#isCommitting = false;
    }
  }

  async #commitBatch(batch: readonly WaitingCommit[]): Promise<void> {
    const commits = batch.map((waiting) => waiting.commit);
    try {
      const outcomes = await this.#ask(() => this.backend.transact(commits));
      for (const [index, { commit, resolve }] of batch.entries()) {
        const revision = outcomes[index];
        resolve(revision);
        if (revision !== undefined && commit.writes.length > 0) this.#tell(revision, commit);
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  #takeBatch(): WaitingCommit[] {
    let bytes = 0;
    let count = 0;
    for (const { commit } of this.#waiting) {
      bytes += commit.writes.reduce((sum, write) => sum + (write.value?.byteLength ?? 0), 0);
      if (count > 0 && bytes > BATCH_BYTES) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  #tell(revision: number, commit: StoreCommit): void {
    // When another process committed in between, the next poll must still find a difference.
    if (revision === this.#toldRevision + 1) this.#toldRevision = revision;
    this.#listeners.announce({ keys: commit.writes.map((write) => write.key) });
  }

  #pollLater(): void {
    if (this.#cancelPoll !== undefined) return;
    this.#cancelPoll = systemClock.after(this.#pollIntervalMs, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    try {
      const revision = await this.#ask(() => this.backend.revision());
      if (revision !== this.#toldRevision) {
        this.#toldRevision = revision;
        this.#listeners.announce({});
      }
    } catch {
      // Whoever uses the store meets the outage; the watch goes on and sees what has changed when it is over.
    }
    this.#cancelPoll = undefined;
    if (this.#state === 'open' && this.#listeners.size > 0) this.#pollLater();
  }

  async #ask<R>(question: () => Promise<R>): Promise<R> {
    try {
      return await this.#track(question());
    } catch (error) {
      if (isSecretsError(error)) throw error;
      // What else database errors carry (parameters, rows, details) may hold stored values.
      const bare = redactError(error, []);
      throw new StoreUnavailableError(this.name, this.backend.explain(bare), bare);
    }
  }

  async #track<R>(work: Promise<R>): Promise<R> {
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
    }
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') throw new StoreClosedError(this.name);
  }
}

/** The first string after all that begin with `prefix`: keys end below the character that follows `~`. */
function endOfPrefix(prefix: string): string {
  if (prefix === '') return '\u007f';
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
