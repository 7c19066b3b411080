import pg from 'pg';
import { isSecretsError, type DatabaseCredentials } from '@nestjs-secrets/core';
import { targetError } from './postgres-target-errors.js';

// Off the default export: pg has had named ones in ESM since 8.15 only.
const { Client } = pg;

/** Where a server is and how to reach it: pg's own options, without the credentials. */
export type PostgresConnection = Omit<pg.ClientConfig, 'user' | 'password' | 'connectionString'>;

/** One open connection; ends with the piece of work it was opened for. */
export interface TargetSession {
  readonly client: pg.Client;
  /**
   * Runs statements in one round trip and answers with the result of each. The text must be whole: bound parameters exist for single
   * statements only, so values go in through `literal` and names through `identifier`.
   * @throws PostgresTargetError
   */
  run(statements: readonly string[]): Promise<pg.QueryResult[]>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 30_000;

// CVE-2018-1058: nothing a user put into a schema may stand in for a function or operator that an administrator's session means.
const SAFE_SEARCH_PATH = 'SET search_path = pg_catalog, pg_temp';

// Compiling a catalog query takes far longer than running it.
const NO_JIT = 'SET jit = off';

/** One PostgreSQL server, reached by short-lived connections. */
export class PostgresTarget {
  /** For messages: `orders@db.example:5432`. */
  readonly label: string;

  constructor(private readonly connection: PostgresConnection) {
    const { database, host, port } = connection;
    this.label = `${database ?? ''}@${host ?? 'localhost'}:${port ?? 5432}`;
  }

  /**
   * Logs in, works, and leaves, whatever happens; an abort of `signal` cuts the connection.
   * @throws PostgresTargetError `TARGET_REFUSED` when the log-in is refused, `TARGET_UNREACHABLE` when nobody answers.
   */
  async session<R>(
    credentials: DatabaseCredentials,
    doing: string,
    signal: AbortSignal,
    work: (session: TargetSession) => Promise<R>,
  ): Promise<R> {
    signal.throwIfAborted();
    const client = new Client({
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      ...this.connection,
      application_name: 'nestjs-secrets',
      user: credentials.username,
      password: credentials.password,
    });
    // A broken connection also fails the query in flight; without a listener it would take the process down as well.
    client.on('error', () => undefined);
    const leave = (): Promise<void> => client.end().catch(() => undefined);
    const onAbort = (): void => void leave();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const translated = async <T>(answer: Promise<T>): Promise<T> => {
        try {
          return await answer;
        } catch (error) {
          signal.throwIfAborted();
          throw targetError(error, this.label, doing);
        }
      };
      await translated(client.connect());
      let prologue = [SAFE_SEARCH_PATH, NO_JIT];
      return await work({
        client,
        run: async (statements) => {
          const skipped = prologue.length;
          const text = [...prologue, ...statements].join(';\n');
          prologue = [];
          const answer: pg.QueryResult | pg.QueryResult[] = await translated(client.query(text));
          return (Array.isArray(answer) ? answer : [answer]).slice(skipped);
        },
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
      await leave();
    }
  }

  /**
   * Whether these credentials open the server: true when they log in, false when the server refuses them as credentials.
   * @throws PostgresTargetError `TARGET_UNREACHABLE` or `TARGET_FAILED` when the answer is neither, and so proves nothing.
   */
  async logsIn(credentials: DatabaseCredentials, doing: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.session(credentials, doing, signal, async () => undefined);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }
}

/** True when a session could not be opened because its credentials were refused. */
export function isRefusal(error: unknown): boolean {
  return isSecretsError(error, 'TARGET_REFUSED');
}
