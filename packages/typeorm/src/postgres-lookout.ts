import { pause, systemClock, type Cancel, type HintListeners } from '@nestjs-secrets/core';
import { BackOff } from './back-off.js';
import type { Lookout } from './lookout.js';
import { readPayload, type PostgresChannels } from './postgres-channels.js';
import { PostgresHintSession } from './postgres-hint-session.js';
import type { PgNotification } from './postgres-source.js';
import type { DataSource } from 'typeorm';

export interface PostgresLookoutParts {
  readonly source: DataSource;
  readonly channels: PostgresChannels;
  /** The statement that reads the revision of the store, as `revision`. */
  readonly revisionQuery: string;
  readonly answerWithinMs: number;
}

/** How many of the latest own commits are known, to keep quiet when the database tells of them as well. */
const REMEMBERED = 256;
const RECONNECT_BASE_MS = 100;
const DOUBT_BASE_MS = 250;

/**
 * Listens on a held session for as long as somebody watches. When it is lost, opens another, with growing pauses, and tells every watcher to
 * look at everything. Meanwhile, and where notifications do not get through (behind a pooler that lends sessions by the transaction), asks
 * for the revision instead.
 */
export class PostgresLookout implements Lookout {
  readonly #backOff = new BackOff(RECONNECT_BASE_MS);
  readonly #doubts = new BackOff(DOUBT_BASE_MS);
  readonly #own = new Set<number>();
  readonly #closing = new AbortController();
  #session: PostgresHintSession | undefined;
  #running: Promise<void> | undefined;
  #poll: Lookout | undefined;
  #cancelCheck: Cancel | undefined;
  #cancelDoubt: Cancel | undefined;
  #isInDoubt = false;

  constructor(
    private readonly parts: PostgresLookoutParts,
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
      const session = new PostgresHintSession(this.parts.source, this.parts.answerWithinMs, (message) =>
        this.#hear(message),
      );
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
  async #look(session: PostgresHintSession): Promise<boolean> {
    const { channels, revisionQuery } = this.parts;
    const wasInDoubt = this.#isInDoubt;
    const known = this.knownRevision;
    try {
      const look = await session.listenTo(() => channels.for(this.listeners.prefixes), revisionQuery);
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
  #checkLater(session: PostgresHintSession): void {
    this.#cancelCheck?.();
    this.#cancelCheck = systemClock.after(this.parts.answerWithinMs, () => void this.#look(session));
  }

  #hear({ payload = '' }: PgNotification): void {
    const { revision, hint } = readPayload(payload);
    if (this.#own.has(revision)) return;
    this.listeners.announce(hint);
  }
}
