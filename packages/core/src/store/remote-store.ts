import { StoreUnavailableError } from '../foundation/errors.js';
import { HintListeners } from './hint-listeners.js';
import { endOfPrefix, type KeyRange } from './key-range.js';
import type { Lookout } from './lookout.js';
import { RevisionPoll } from './revision-poll.js';
import { SessionLookout, type HearHint, type HintSession } from './session-lookout.js';
import { StoreCalls, type BareError } from './store-calls.js';
import type { StoreCommit, StoreDriver, StoreEntry, StoreHint, StoreListOptions } from './store-driver.js';
import { checkCommit, checkKey, checkList } from './store-request.js';

/** What a server says, with a revision of its own at that moment, which on a sound server never falls. */
export interface RemoteAnswer<R> {
  readonly revision: number;
  readonly result: R;
}

export interface RemoteCommit {
  /** The store's revision before; that after is the same when nothing was to be written. */
  readonly before: number;
  readonly revision: number;
}

/**
 * What differs between servers that keep a store and tell of its commits themselves. The store above checks requests and keeps watch; a
 * backend may throw whatever its client throws, within `answerWithinMs`, and says in `explain` what that means.
 */
export interface RemoteBackend {
  readonly name: string;
  /** Connects. May be called again when it failed. */
  open(): Promise<void>;
  /** Closes every connection, without a wait for the server. */
  close(): Promise<void>;
  get(key: string): Promise<RemoteAnswer<StoreEntry | undefined>>;
  /** The entries of this range, as of one moment. */
  list(range: KeyRange): Promise<RemoteAnswer<StoreEntry[]>>;
  /** The store's revision. */
  revision(): Promise<RemoteAnswer<number>>;
  /**
   * Judges and carries out a commit; undefined when a condition did not hold. `atLeast`: the highest revision that any answer has had, for a
   * server that can refuse to write when it has fallen behind that.
   */
  commit(commit: StoreCommit, atLeast: number): Promise<RemoteAnswer<RemoteCommit | undefined>>;
  newSession(hear: HearHint): HintSession;
  /** The second half of a sentence that begins with "The store …". */
  explain(error: BareError): string;
}

/** The options of a store on a server, checked and complete. Times are milliseconds. */
export interface RemoteLimits {
  /** By when a call has its answer or fails. */
  readonly answerWithinMs: number;
  /** How often to ask for the revision while the server cannot tell of commits. */
  readonly pollIntervalMs: number;
}

/** A store on a server. */
export class RemoteStore implements StoreDriver {
  readonly name: string;
  readonly #listeners = new HintListeners();
  readonly #calls: StoreCalls;
  #lookout: Lookout | undefined;
  #highest = 0;

  constructor(
    private readonly backend: RemoteBackend,
    private readonly limits: RemoteLimits,
  ) {
    this.name = backend.name;
    this.#calls = new StoreCalls(
      backend.name,
      (error) => backend.explain(error),
      () => this.#lookout?.doubt(),
    );
  }

  open(): Promise<void> {
    const connect = async (): Promise<number> => {
      await this.backend.open();
      return this.#judged(() => this.backend.revision());
    };
    return this.#calls.open(connect, (revision) => (this.#lookout = this.#lookoutFrom(revision)));
  }

  close(): Promise<void> {
    this.#listeners.clear();
    return this.#calls.close(
      async () => this.#lookout?.close(),
      () => this.backend.close(),
    );
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#calls.mustBeOpen();
    checkKey(key);
    return this.#ask(() => this.backend.get(key));
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    this.#calls.mustBeOpen();
    checkList(options);
    const { prefix, after = '', limit } = options;
    return this.#ask(() => this.backend.list({ from: prefix, after, until: endOfPrefix(prefix), limit }));
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    this.#calls.mustBeOpen();
    checkCommit(commit);
    // The caller may change its bytes as soon as it has the promise.
    const own = {
      conditions: commit.conditions.map((condition) => ({ ...condition })),
      writes: commit.writes.map(({ key, value }) => ({ key, value: value && Buffer.from(value) })),
    };
    const done = await this.#ask(() => this.backend.commit(own, this.#highest));
    if (done !== undefined && own.writes.length > 0) {
      this.#lookout?.told(done.before, done.revision);
      this.#listeners.announce({ keys: own.writes.map((write) => write.key) });
    }
    return done?.revision;
  }

  async revision(): Promise<number> {
    this.#calls.mustBeOpen();
    return this.#ask(() => this.backend.revision());
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
    const changes = async (): Promise<{ revision: number }> => ({
      revision: await this.#calls.track(this.#judged(() => this.backend.revision())),
    });
    return new SessionLookout(
      { newSession: (hear) => this.backend.newSession(hear), lookEveryMs: this.limits.answerWithinMs },
      this.#listeners,
      revision,
      () => new RevisionPoll(this.#listeners, changes, revision, this.limits.pollIntervalMs),
    );
  }

  #ask<R>(question: () => Promise<RemoteAnswer<R>>): Promise<R> {
    return this.#calls.ask(() => this.#judged(question));
  }

  async #judged<R>(question: () => Promise<RemoteAnswer<R>>): Promise<R> {
    // Answers overtake each other: only what was known before the question counts.
    const known = this.#highest;
    const { revision, result } = await question();
    if (revision < known) throw wentBack(this.name, known, revision);
    this.#highest = Math.max(this.#highest, revision);
    return result;
  }
}

/** The server has lost commits: what one process has acted on is not there, and its revisions would be given a second time. */
export function wentBack(storeName: string, from: number, to: number): StoreUnavailableError {
  return new StoreUnavailableError(
    storeName,
    `went back from revision ${from} to ${to}: commits that it had acknowledged are gone, as after a fail-over to a replica that lagged, or a restore. Restore what is missing, or restart every process to go on with what is left.`,
  );
}
