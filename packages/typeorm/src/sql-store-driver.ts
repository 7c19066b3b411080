import {
  checkCommit,
  checkKey,
  checkList,
  HintListeners,
  isSecretsError,
  redactError,
  StoreClosedError,
  StoreUnavailableError,
  type StoreCommit,
  type StoreDriver,
  type StoreEntry,
  type StoreHint,
  type StoreListOptions,
} from '@nestjs-secrets/core';
import { CommitQueue } from './commit-queue.js';
import type { Lookout } from './lookout.js';
import { ReadBatches } from './read-batches.js';
import { RevisionPoll } from './revision-poll.js';
import type { SqlBackend, SqlLimits } from './sql-backend.js';

/** What is common to the stores on every database. */
export class SqlStore implements StoreDriver {
  readonly name: string;
  readonly #listeners = new HintListeners();
  readonly #commits = new CommitQueue((commits) => this.#transact(commits));
  readonly #reads = new ReadBatches((keys) => this.#ask(() => this.backend.read(keys)));
  readonly #underWay = new Set<Promise<unknown>>();
  #state: 'new' | 'open' | 'closed' = 'new';
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #lookout: Lookout | undefined;

  constructor(
    private readonly backend: SqlBackend,
    private readonly limits: SqlLimits,
  ) {
    this.name = backend.name;
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
    return this.#reads.get(key);
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
    return this.#commits.add({
      conditions: commit.conditions.map((condition) => ({ ...condition })),
      writes: commit.writes.map(({ key, value }) => ({ key, value: value && Buffer.from(value) })),
    });
  }

  async revision(): Promise<number> {
    this.#mustBeOpen();
    return this.#ask(() => this.backend.revision());
  }

  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    this.#mustBeOpen();
    const end = this.#listeners.add(onHint, prefixes);
    this.#lookout?.adjust();
    return () => {
      end();
      this.#lookout?.adjust();
    };
  }

  async #openOnce(): Promise<void> {
    const revision = await this.#ask(async () => {
      await this.backend.open();
      return this.backend.revision();
    });
    if (this.#state !== 'new') return;
    this.#state = 'open';
    const poll = (): RevisionPoll =>
      new RevisionPoll(
        this.#listeners,
        (since) => this.#track(this.backend.changesSince(since)),
        revision,
        this.limits.pollIntervalMs,
      );
    this.#lookout = this.backend.lookout?.(this.#listeners, revision, poll) ?? poll();
  }

  async #closeOnce(): Promise<void> {
    this.#state = 'closed';
    this.#listeners.clear();
    await Promise.all([this.#commits.close(this.name), this.#lookout?.close()]);
    await Promise.allSettled(this.#underWay);
    await this.backend.close();
  }

  async #transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    const outcomes = await this.#ask(() => this.backend.transact(commits));
    const written = commits.flatMap(({ writes }, index) => {
      const revision = outcomes[index];
      return revision === undefined || writes.length === 0 ? [] : [{ revision, writes }];
    });
    const revision = written.at(-1)?.revision;
    if (revision !== undefined) {
      this.#lookout?.told(revision - written.length, revision);
      this.#listeners.announce({ keys: written.flatMap(({ writes }) => writes.map((write) => write.key)) });
    }
    return outcomes;
  }

  async #ask<R>(question: () => Promise<R>): Promise<R> {
    try {
      return await this.#track(question());
    } catch (error) {
      this.#lookout?.doubt();
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
