import { pause, systemClock, type Cancel } from '../foundation/clock.js';
import { BackOff } from './back-off.js';
import type { HintListeners } from './hint-listeners.js';
import type { Lookout } from './lookout.js';
import type { StoreHint } from './store-driver.js';

export interface SessionLook {
  readonly revision: number;
  /** True when the session has begun to listen to something since the look before. */
  readonly isNew: boolean;
}

/** One life of a connection on which a server tells of commits: once it has ended, it stays so. */
export interface HintSession {
  /** Resolves when the session has ended. */
  readonly ended: Promise<void>;
  /** Connects. Rejects when that fails, also when the session is ended meanwhile. */
  open(): Promise<void>;
  /**
   * Listens to what `prefixes` ask for (undefined: to everything), and makes sure that the session still does. The revision is read after it
   * has begun to listen, so that what it does not cover will be told. Undefined when a look is under way already, which then covers this one.
   */
  look(prefixes: () => ReadonlySet<string> | undefined): Promise<SessionLook | undefined>;
  /** Closes the connection, without a wait for the server. */
  end(): void;
}

/** A hint, with the revision of the commit it tells of. */
export type HearHint = (revision: number, hint: StoreHint) => void;

export interface SessionLookoutParts {
  /** Makes a session that tells `hear` of every commit, those of this process too. */
  readonly newSession: (hear: HearHint) => HintSession;
  /** How often to make sure that the session listens, in milliseconds. */
  readonly lookEveryMs: number;
}

/** How many of the latest own commits are known, to keep quiet when the server tells of them as well. */
const REMEMBERED = 256;
const RECONNECT_BASE_MS = 100;
const DOUBT_BASE_MS = 250;

/**
 * Listens on a held session for as long as somebody watches. When it is lost, opens another, with growing pauses, and tells every watcher to
 * look at everything. Meanwhile, and where hints do not get through (PostgreSQL behind a pooler that lends sessions by the transaction), asks
 * for the revision instead.
 */
export class SessionLookout implements Lookout {
  readonly #backOff = new BackOff(RECONNECT_BASE_MS);
  readonly #doubts = new BackOff(DOUBT_BASE_MS);
  readonly #own = new Set<number>();
  readonly #closing = new AbortController();
  #session: HintSession | undefined;
  #running: Promise<void> | undefined;
  #poll: Lookout | undefined;
  #cancelCheck: Cancel | undefined;
  #cancelDoubt: Cancel | undefined;
  #isInDoubt = false;

  constructor(
    private readonly parts: SessionLookoutParts,
    private readonly listeners: HintListeners,
    /** Watchers know of every commit up to this revision. */
    private knownRevision: number,
    private readonly makePoll: () => Lookout,
  ) {}

  adjust(): void {
    if (this.#closing.signal.aborted) return;
    this.#poll?.adjust();
    if (this.listeners.size === 0) {
      this.#session?.end();
      return;
    }
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      // Somebody may have begun to watch while the last session was ending.
      this.adjust();
    });
    const session = this.#session;
    if (session !== undefined) void this.#look(session);
  }

  told(before: number, revision: number): void {
    if (before === this.knownRevision) this.knownRevision = revision;
    this.#own.add(revision);
    for (const oldest of this.#own) {
      if (this.#own.size <= REMEMBERED) break;
      this.#own.delete(oldest);
    }
    this.#poll?.told(before, revision);
  }

  doubt(): void {
    this.#isInDoubt = true;
    this.#poll?.doubt();
    const session = this.#session;
    if (session === undefined || this.#cancelDoubt !== undefined) return;
    // Never at once: watchers who look again, and fail again, would have this go round without a pause.
    this.#cancelDoubt = systemClock.after(this.#doubts.next(), () => {
      this.#cancelDoubt = undefined;
      if (session === this.#session) void this.#look(session);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelCheck?.();
    this.#cancelDoubt?.();
    this.#session?.end();
    await Promise.all([this.#poll?.close(), this.#running]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted && this.listeners.size > 0) {
      const session = this.parts.newSession((revision, hint) => this.#hear(revision, hint));
      this.#session = session;
      try {
        await session.open();
        if (await this.#look(session)) await session.ended;
      } catch {
        // The same as a session that ends: there will be another.
      }
      this.#session = undefined;
      this.#cancelCheck?.();
      session.end();
      if (signal.aborted || this.listeners.size === 0) break;
      this.#isInDoubt = true;
      this.#poll ??= this.makePoll();
      this.#poll.adjust();
      await pause(systemClock, this.#backOff.next(), signal);
    }
  }

  /** Brings the session to what watchers ask for, and finds out whether it still listens; ends it when it does not. */
  async #look(session: HintSession): Promise<boolean> {
    const wasInDoubt = this.#isInDoubt;
    const known = this.knownRevision;
    try {
      const look = await session.look(() => this.listeners.prefixes);
      if (look === undefined) return true;
      if (session !== this.#session || this.#closing.signal.aborted) return false;
      this.#backOff.reset();
      this.#isInDoubt &&= !wasInDoubt;
      if (!wasInDoubt) this.#doubts.reset();
      if (this.#poll !== undefined) {
        void this.#poll.close();
        this.#poll = undefined;
      }
      // A commit after watch() was called and before the session listened has told nobody.
      if (wasInDoubt || (look.isNew && look.revision !== known)) this.listeners.announce({});
      if (this.knownRevision === known) this.knownRevision = look.revision;
      this.#checkLater(session);
      return true;
    } catch {
      session.end();
      return false;
    }
  }

  /** A session that nobody speaks on may have died without a word; and a silent one must not be cut off by something between here and there. */
  #checkLater(session: HintSession): void {
    this.#cancelCheck?.();
    this.#cancelCheck = systemClock.after(this.parts.lookEveryMs, () => void this.#look(session));
  }

  #hear(revision: number, hint: StoreHint): void {
    if (this.#own.has(revision)) return;
    this.listeners.announce(hint);
  }
}
