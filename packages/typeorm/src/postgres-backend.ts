import {
  answerWithin,
  Deadline,
  SessionLookout,
  StoreUnavailableError,
  type BareError,
  type HintListeners,
  type KeyRange,
  type Lookout,
  type StoreChanges,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import type { DataSource } from 'typeorm';
import { judgeBatch, type JudgedBatch } from './commit-batch.js';
import { leaveUnopened } from './own-source.js';
import { PostgresChannels } from './postgres-channels.js';
import { PostgresHintSession } from './postgres-hint-session.js';
import { postgresSource, sqlState, type PgClient, type PostgresOptions, type Row } from './postgres-source.js';
import { quotedTable, STORE_ROW, type SqlBackend, type SqlLimits } from './sql-backend.js';

type Query = (text: string, values?: readonly unknown[]) => Promise<Row[]>;

const ATTEMPTS = 3;

/**
 * A store in a table on PostgreSQL. Every transaction that writes first locks the row with the store's revision: writers come one after the
 * other, and under READ COMMITTED each sees all that the ones before it did.
 *
 * The same transaction notifies those who listen. Speaks to the client under TypeORM's query runner, so that neither its SQL log nor its
 * errors see what is stored.
 */
export class PostgresBackend implements SqlBackend {
  readonly name = 'sql (postgres)';
  readonly #table: string;
  readonly #source: DataSource;
  #channels = new PostgresChannels('');

  constructor(
    Source: typeof DataSource,
    options: PostgresOptions,
    table: string,
    private readonly limits: SqlLimits,
  ) {
    this.#table = quotedTable(table, options.schema);
    this.#source = postgresSource(Source, options, limits);
  }

  async open(): Promise<void> {
    await this.#initialize();
    try {
      const table = await this.#connected((query) => this.#createTable(query));
      this.#channels = new PostgresChannels(table);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    if (!this.#source.isInitialized) return;
    // A server that does not answer does not say farewell either.
    await answerWithin(this.limits.answerWithinMs, 'closing', this.#source.destroy()).catch(() => undefined);
  }

  lookout(listeners: HintListeners, revision: number, poll: () => Lookout): Lookout {
    const parts = {
      source: this.#source,
      channels: this.#channels,
      revisionQuery: this.#revisionQuery,
      answerWithinMs: this.limits.answerWithinMs,
    };
    return new SessionLookout(
      { newSession: (hear) => new PostgresHintSession(parts, hear), lookEveryMs: this.limits.answerWithinMs },
      listeners,
      revision,
      poll,
    );
  }

  async read(keys: readonly string[]): Promise<StoreEntry[]> {
    const rows = await this.#connected((query) =>
      query(`SELECT key, value, revision FROM ${this.#table} WHERE key = ANY ($1::text[])`, [keys]),
    );
    return rows.map(toEntry);
  }

  async list({ from, after, until, limit }: KeyRange): Promise<StoreEntry[]> {
    const rows = await this.#connected((query) =>
      query(
        `SELECT key, value, revision FROM ${this.#table} WHERE key >= $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4`,
        [from, after, until, limit],
      ),
    );
    return rows.map(toEntry);
  }

  revision(): Promise<number> {
    return this.#connected(async (query) => this.#storeRevision(await query(this.#revisionQuery)));
  }

  async changesSince(): Promise<StoreChanges> {
    return { revision: await this.revision() };
  }

  async transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    const deadline = new Deadline(this.limits.answerWithinMs);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#connected((query) => this.#transactOnce(query, commits), deadline);
      } catch (error) {
        // serialization_failure and deadlock_detected: PostgreSQL has undone the transaction and asks for another try.
        if (attempt === ATTEMPTS || !['40001', '40P01'].includes(sqlState(error) ?? '')) throw error;
      }
    }
  }

  explain(error: BareError): string {
    const state = sqlState(error);
    if (state === undefined) return `could not be reached: ${error.message}`;
    if (state === '42501')
      return `was refused by its database (${error.message}): grant its role the use of ${this.#table}.`;
    if (state === '42P01' || state === '42703') {
      return `does not find its table as it made it (${error.message}): choose another table, or restore ${this.#table}.`;
    }
    if (state.startsWith('28')) return `could not log in (${error.message}): check the credentials of its DataSource.`;
    return `did not do its work: ${error.message} (${state})`;
  }

  async #transactOnce(query: Query, commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    // One round trip. Some applications turn synchronous_commit off for their own data; what is acknowledged here must stay. And a process
    // that stops within the transaction, or vanishes with its network, must not keep the row that all the others wait for.
    const limit = this.limits.answerWithinMs;
    const before = this.#storeRevision(
      await query(
        `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SELECT set_config('idle_in_transaction_session_timeout', '${limit}', true), set_config('lock_timeout', '${limit}', true);
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
         ${this.#revisionQuery} FOR UPDATE`,
      ),
    );
    const stored = await this.#revisionsOf(query, commits);
    const judged = judgeBatch(commits, before, (key) => stored.get(key) ?? 0);
    if (judged.revision !== before) await this.#write(query, judged);
    await query('COMMIT');
    return judged.outcomes;
  }

  async #revisionsOf(query: Query, commits: readonly StoreCommit[]): Promise<Map<string, number>> {
    const keys = new Set(commits.flatMap((commit) => commit.conditions.map((condition) => condition.key)));
    if (keys.size === 0) return new Map();
    const rows = await query(`SELECT key, revision FROM ${this.#table} WHERE key = ANY ($1::text[])`, [[...keys]]);
    return new Map(rows.map((row) => [row.key, Number(row.revision)]));
  }

  async #write(query: Query, { writes, revision }: JudgedBatch): Promise<void> {
    const removed = writes.filter((write) => write.value === null).map((write) => write.key);
    const put = [
      ...writes.filter((write) => write.value !== null),
      { key: STORE_ROW, value: Buffer.alloc(0), revision },
    ];
    const told = this.#channels.notifications(
      writes.map((write) => write.key),
      revision,
    );
    if (removed.length > 0) await query(`DELETE FROM ${this.#table} WHERE key = ANY ($1::text[])`, [removed]);
    await query(
      `WITH put AS (
         INSERT INTO ${this.#table} (key, value, revision) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision
       )
       SELECT pg_notify(channel, payload) FROM unnest($4::text[], $5::text[]) AS told (channel, payload)`,
      [
        put.map((row) => row.key),
        put.map((row) => row.value),
        put.map((row) => row.revision),
        told.map(({ channel }) => channel),
        told.map(({ payload }) => payload),
      ],
    );
  }

  /** Makes the table if need be, and gives its full name. */
  async #createTable(query: Query): Promise<string> {
    // Looked up first, since a role that may not create tables can still use one made for it.
    const found = await query(`SELECT 1 WHERE to_regclass($1) IS NOT NULL`, [this.#table]);
    // Two processes that create a table at once fail in PostgreSQL, IF NOT EXISTS or not; hence the lock.
    const create = `SELECT pg_advisory_xact_lock(hashtext('nestjs-secrets ${this.#table}'));
       CREATE TABLE IF NOT EXISTS ${this.#table} (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, revision bigint NOT NULL);`;
    await query(
      `BEGIN READ WRITE;
       ${found.length === 0 ? create : ''}
       INSERT INTO ${this.#table} (key, value, revision) VALUES ('${STORE_ROW}', '', 0) ON CONFLICT (key) DO NOTHING;
       COMMIT`,
    );
    const [named] = await query(
      `SELECT nspname || '.' || relname AS key FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
       WHERE pg_class.oid = to_regclass($1)`,
      [this.#table],
    );
    return named?.key ?? this.#table;
  }

  get #revisionQuery(): string {
    return `SELECT revision FROM ${this.#table} WHERE key = '${STORE_ROW}'`;
  }

  async #initialize(): Promise<void> {
    if (this.#source.isInitialized) return;
    try {
      await this.#source.initialize();
    } catch (error) {
      await leaveUnopened(this.#source, this.limits.answerWithinMs);
      throw error;
    }
  }

  #storeRevision([row]: readonly Row[]): number {
    if (row !== undefined) return Number(row.revision);
    throw new StoreUnavailableError(
      this.name,
      `has lost a row of ${this.#table} that it cannot do without: restore the table from a backup.`,
    );
  }

  async #connected<R>(
    work: (query: Query) => Promise<R>,
    deadline = new Deadline(this.limits.answerWithinMs),
  ): Promise<R> {
    const runner = this.#source.createQueryRunner('master');
    try {
      const client = (await runner.connect()) as PgClient;
      const query: Query = async (text, values) => {
        const result = await client.query({ text, values, query_timeout: deadline.leftMs });
        return ((Array.isArray(result) ? result.at(-1) : result)?.rows ?? []) as Row[];
      };
      try {
        return await work(query);
      } catch (error) {
        await leaveClean(client, query, error);
        throw error;
      }
    } finally {
      await runner.release();
    }
  }
}

/**
 * Ends the transaction an error left behind, or the whole connection when the error did not come from the server, or from one that no longer
 * takes writes (read_only_sql_transaction, after a failover).
 */
async function leaveClean(client: PgClient, query: Query, error: unknown): Promise<void> {
  try {
    if ([undefined, '25006'].includes(sqlState(error))) throw error;
    await query('ROLLBACK');
  } catch {
    // An ended client is not taken back by the pool. Its farewell may never be answered, so nobody waits for it.
    client.end().catch(() => undefined);
  }
}

function toEntry(row: Row): StoreEntry {
  return { key: row.key, value: row.value, revision: Number(row.revision) };
}
