import { StoreUnavailableError, type StoreCommit, type StoreEntry } from '@nestjs-secrets/core';
import type { DataSource } from 'typeorm';
import { judgeBatch, type RowWrite } from './commit-batch.js';
import { quotedTable, STORE_ROW, type KeyRange, type SqlBackend } from './sql-backend.js';

/** The part of a pg client this backend uses. */
interface PgClient {
  query(query: { text: string; values?: unknown[]; query_timeout: number }): Promise<PgResult | PgResult[]>;
  end(): Promise<void>;
}

interface PgResult {
  readonly rows: Row[];
}

interface Row {
  readonly key: string;
  readonly value: Buffer;
  /** A string, a number or a bigint, as the application has set up pg for int8. */
  readonly revision: string | number | bigint;
}

type Query = (text: string, values?: unknown[]) => Promise<Row[]>;

/** After this time without an answer a statement counts as failed, in milliseconds. */
const ANSWER_LIMIT_MS = 10_000;
const ATTEMPTS = 3;

/**
 * A store in a table on PostgreSQL. Every transaction that writes first locks the row with the store's revision: writers come one after the
 * other, and under READ COMMITTED each sees all that the ones before it did.
 *
 * Speaks to the client under TypeORM's query runner, so that neither its SQL log nor its errors see what is stored.
 */
export class PostgresBackend implements SqlBackend {
  readonly name = 'sql (postgres)';
  readonly #table: string;
  #isOurs = false;

  constructor(
    private readonly dataSource: DataSource,
    schema: string | undefined,
    table: string,
    private readonly answerLimitMs = ANSWER_LIMIT_MS,
  ) {
    this.#table = quotedTable(table, schema);
  }

  async open(): Promise<void> {
    if (!this.dataSource.isInitialized) {
      await this.dataSource.initialize();
      this.#isOurs = true;
    }
    try {
      await this.#connected((query) => this.#createTable(query));
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    if (!this.#isOurs) return;
    this.#isOurs = false;
    if (this.dataSource.isInitialized) await this.dataSource.destroy();
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    const [row] = await this.#connected((query) =>
      query(`SELECT key, value, revision FROM ${this.#table} WHERE key = $1`, [key]),
    );
    return row && toEntry(row);
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
    return this.#connected(async (query) =>
      this.#storeRevision(await query(`SELECT revision FROM ${this.#table} WHERE key = '${STORE_ROW}'`)),
    );
  }

  async transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#connected((query) => this.#transactOnce(query, commits));
      } catch (error) {
        // serialization_failure and deadlock_detected: PostgreSQL has undone the transaction and asks for another try.
        if (attempt === ATTEMPTS || !['40001', '40P01'].includes(sqlState(error) ?? '')) throw error;
      }
    }
  }

  explain(error: Error & { readonly code?: unknown }): string {
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
    // One round trip. Some applications turn synchronous_commit off for their own data; what is acknowledged here must stay.
    const before = this.#storeRevision(
      await query(
        `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
         SELECT revision FROM ${this.#table} WHERE key = '${STORE_ROW}' FOR UPDATE`,
      ),
    );
    const stored = await this.#revisionsOf(query, commits);
    const { outcomes, writes, revision } = judgeBatch(commits, before, (key) => stored.get(key) ?? 0);
    await this.#write(query, writes, revision === before ? undefined : revision);
    await query('COMMIT');
    return outcomes;
  }

  async #revisionsOf(query: Query, commits: readonly StoreCommit[]): Promise<Map<string, number>> {
    const keys = new Set(commits.flatMap((commit) => commit.conditions.map((condition) => condition.key)));
    if (keys.size === 0) return new Map();
    const rows = await query(`SELECT key, revision FROM ${this.#table} WHERE key = ANY ($1::text[])`, [[...keys]]);
    return new Map(rows.map((row) => [row.key, Number(row.revision)]));
  }

  async #write(query: Query, writes: readonly RowWrite[], revision: number | undefined): Promise<void> {
    if (revision === undefined) return;
    const removed = writes.filter((write) => write.value === null).map((write) => write.key);
    const put = [
      ...writes.filter((write) => write.value !== null),
      { key: STORE_ROW, value: Buffer.alloc(0), revision },
    ];
    if (removed.length > 0) await query(`DELETE FROM ${this.#table} WHERE key = ANY ($1::text[])`, [removed]);
    await query(
      `INSERT INTO ${this.#table} (key, value, revision) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[])
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
      [put.map((row) => row.key), put.map((row) => row.value), put.map((row) => row.revision)],
    );
  }

  async #createTable(query: Query): Promise<void> {
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
  }

  #storeRevision([row]: readonly Row[]): number {
    if (row !== undefined) return Number(row.revision);
    throw new StoreUnavailableError(
      this.name,
      `has lost a row of ${this.#table} that it cannot do without: restore the table from a backup.`,
    );
  }

  async #connected<R>(work: (query: Query) => Promise<R>): Promise<R> {
    const runner = this.dataSource.createQueryRunner('master');
    try {
      const client = (await runner.connect()) as PgClient;
      const query: Query = async (text, values) => {
        const result = await client.query({ text, values, query_timeout: this.answerLimitMs });
        return (Array.isArray(result) ? result.at(-1) : result)?.rows ?? [];
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

/** Ends the transaction an error left behind, or the whole connection when the error did not come from the server. */
async function leaveClean(client: PgClient, query: Query, error: unknown): Promise<void> {
  try {
    if (sqlState(error) === undefined) throw error;
    await query('ROLLBACK');
  } catch {
    // An ended client is not taken back by the pool. Its farewell may never be answered, so nobody waits for it.
    client.end().catch(() => undefined);
  }
}

/** What tells an error of the server from one of the way to it, whose codes (EPIPE…) begin with an E: https://www.postgresql.org/docs/current/errcodes-appendix.html */
function sqlState(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' && /^(?!E)[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined;
}

function toEntry(row: Row): StoreEntry {
  return { key: row.key, value: row.value, revision: Number(row.revision) };
}
