import type { HearHint, HintSession, SessionLook } from '@nestjs-secrets/core';
import type { DataSource, QueryRunner } from 'typeorm';
import { readPayload, type PostgresChannels } from './postgres-channels.js';
import type { PgClient } from './postgres-source.js';

export interface HintSessionParts {
  readonly source: DataSource;
  readonly channels: PostgresChannels;
  /** The statement that reads the revision of the store, as `revision`. */
  readonly revisionQuery: string;
  readonly answerWithinMs: number;
}

/** A session that listens for the notifications of commits. */
export class PostgresHintSession implements HintSession {
  readonly ended: Promise<void>;
  readonly #runner: QueryRunner;
  #client: PgClient | undefined;
  #channels: readonly string[] = [];
  #isEnded = false;
  #sayEnded: () => void = () => undefined;
  #looking: Promise<unknown> | undefined;
  #lookAgain = false;

  constructor(
    private readonly parts: HintSessionParts,
    private readonly hear: HearHint,
  ) {
    this.ended = new Promise((resolve) => (this.#sayEnded = resolve));
    this.#runner = parts.source.createQueryRunner('master');
  }

  async open(): Promise<void> {
    const client = (await this.#runner.connect()) as PgClient;
    this.#client = client;
    if (this.#isEnded) {
      this.#leave();
      throw new Error('The session was ended while it connected.');
    }
    client.on('notification', ({ payload = '' }) => {
      const { revision, hint } = readPayload(payload);
      if (!this.#isEnded) this.hear(revision, hint);
    });
    client.on('error', () => this.end());
    client.on('end', () => this.end());
    // Waiting for hints is no reason for a process to stay.
    client.unref?.();
  }

  /** Makes sure as well that it is this very session of the server that listens, and to nothing else. */
  async look(prefixes: () => ReadonlySet<string> | undefined): Promise<SessionLook | undefined> {
    if (this.#client === undefined) return undefined;
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return undefined;
    }
    const looking = this.#look(() => this.parts.channels.for(prefixes()));
    this.#looking = looking;
    try {
      return await looking;
    } finally {
      this.#looking = undefined;
    }
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#leave();
    this.#sayEnded();
  }

  async #look(channels: () => readonly string[]): Promise<SessionLook> {
    let isNew = false;
    for (;;) {
      this.#lookAgain = false;
      const wanted = channels();
      const added = wanted.filter((channel) => !this.#channels.includes(channel));
      const dropped = this.#channels.filter((channel) => !wanted.includes(channel));
      const changes = [...added.map((name) => `LISTEN "${name}"`), ...dropped.map((name) => `UNLISTEN "${name}"`)];
      if (changes.length > 0) await this.#query(changes.join('; '));
      this.#channels = wanted;
      isNew ||= added.length > 0;
      // In a transaction after the one that began to listen, so that what it does not see will be told.
      const [row] = await this.#query(
        `SELECT revision, (SELECT count(*) FROM pg_listening_channels() AS c WHERE c = ANY ($1)) AS listening FROM (${this.parts.revisionQuery}) AS store`,
        [wanted],
      );
      if (row === undefined || Number(row.listening) !== wanted.length) {
        throw new Error('What answers is not the session that listens.');
      }
      if (!this.#lookAgain) return { revision: Number(row.revision), isNew };
    }
  }

  async #query(text: string, values?: unknown[]): Promise<LookRow[]> {
    const result = await this.#client?.query({
      text,
      query_timeout: this.parts.answerWithinMs,
      ...(values === undefined ? {} : { values }),
    });
    return ((Array.isArray(result) ? result.at(-1) : result)?.rows ?? []) as LookRow[];
  }

  #leave(): void {
    const client = this.#client;
    if (client === undefined) return;
    // It still listens, so nobody else shall get it: a client that has ended is not taken back by the pool. Its farewell may never be answered.
    client.end().catch(() => undefined);
    this.#runner.release().catch(() => undefined);
  }
}

interface LookRow {
  readonly revision: string | number | bigint;
  readonly listening: string | number | bigint;
}
