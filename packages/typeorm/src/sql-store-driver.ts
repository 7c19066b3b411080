import {
  checkCommit,
  checkKey,
  checkList,
  endOfPrefix,
  HintListeners,
  RevisionPoll,
  StoreCalls,
  type Lookout,
  type StoreCommit,
  type StoreDriver,
  type StoreEntry,
  type StoreHint,
  type StoreListOptions,
} from '@nestjs-secrets/core';
import { CommitQueue } from './commit-queue.js';
import { everyTurn } from './event-loop-turns.js';
import { ReadBatches } from './read-batches.js';
import type { SqlBackend, SqlLimits } from './sql-backend.js';

/** What is common to the stores on every database. */
export class SqlStore implements StoreDriver {
  readonly name: string;
  readonly #listeners = new HintListeners();
  readonly #commits: CommitQueue;
  readonly #reads: ReadBatches;
  readonly #calls: StoreCalls;
  #lookout: Lookout | undefined;

  constructor(
    private readonly backend: SqlBackend,
    private readonly limits: SqlLimits,
  ) {
    this.name = backend.name;
    this.#calls = new StoreCalls(
      backend.name,
      (error) => backend.explain(error),
      () => this.#lookout?.doubt(),
    );
    const gather = backend.gather ?? everyTurn;
    this.#commits = new CommitQueue((commits) => this.#transact(commits), gather);
    this.#reads = new ReadBatches((keys) => this.#calls.ask(() => this.backend.read(keys)), gather);
  }

  open(): Promise<void> {
    const connect = async (): Promise<number> => {
      await this.backend.open();
      return this.backend.revision();
    };
    return this.#calls.open(connect, (revision) => (this.#lookout = this.#lookoutFrom(revision)));
  }

  close(): Promise<void> {
    this.#listeners.clear();
    return this.#calls.close(
      () => Promise.all([this.#commits.close(this.name), this.#lookout?.close()]),
      () => this.backend.close(),
    );
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#calls.mustBeOpen();
    checkKey(key);
    return this.#reads.get(key);
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    this.#calls.mustBeOpen();
    checkList(options);
    const { prefix, after = '', limit } = options;
    return this.#calls.ask(() => this.backend.list({ from: prefix, after, until: endOfPrefix(prefix), limit }));
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    this.#calls.mustBeOpen();
    checkCommit(commit);
    return this.#commits.add({
      conditions: commit.conditions.map((condition) => ({ ...condition })),
      writes: commit.writes.map(({ key, value }) => ({ key, value: value && Buffer.from(value) })),
    });
  }

  async revision(): Promise<number> {
    this.#calls.mustBeOpen();
    return this.#calls.ask(() => this.backend.revision());
  }

  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    this.#calls.mustBeOpen();
    const end = this.#listeners.add(onHint, prefixes);
    this.#lookout?.adjust();
    return () => {
      end();
      this.#lookout?.adjust();
    };
  }

  #lookoutFrom(revision: number): Lookout {
    const poll = (): RevisionPoll =>
      new RevisionPoll(
        this.#listeners,
        (since) => this.#calls.track(this.backend.changesSince(since)),
        revision,
        this.limits.pollIntervalMs,
      );
    return this.backend.lookout?.(this.#listeners, revision, poll) ?? poll();
  }

  async #transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    const outcomes = await this.#calls.ask(() => this.backend.transact(commits));
    const keys: string[] = [];
    let written = 0;
    let last = 0;
    for (const [index, { writes }] of commits.entries()) {
      const revision = outcomes[index];
      if (revision === undefined || writes.length === 0) continue;
      written += 1;
      last = revision;
      for (const { key } of writes) keys.push(key);
    }
    if (written > 0) {
      this.#lookout?.told(last - written, last);
      this.#listeners.announce({ keys });
    }
    return outcomes;
  }
}
