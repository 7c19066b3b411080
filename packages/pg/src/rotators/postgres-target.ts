import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import pg from 'pg';
import { isSecretsError, pause, type DatabaseCredentials, type RotationContext } from '@nestjs-secrets/core';
import { PostgresTargetError, targetError } from './postgres-target-errors.js';

// Off the default export: pg has had named ones in ESM since 8.15 only.
const { Client } = pg;

/** Where a server is and how to reach it: pg's own options, without the credentials. */
export type PostgresConnection = Omit<pg.ClientConfig, 'user' | 'password' | 'connectionString'>;

/** What a session needs of the context of a step. */
export type StepContext = Pick<RotationContext, 'signal' | 'clock' | 'assertHolder'>;

/** One open connection; ends with the piece of work it was opened for. */
export interface TargetSession {
  readonly client: pg.Client;
  /**
   * Runs statements that only look, in one round trip, and answers with the result of each. The text must be whole: bound parameters exist
   * for single statements only, so values go in through `literal` and names through `identifier`.
   * @throws PostgresTargetError
   */
  run(statements: readonly string[]): Promise<pg.QueryResult[]>;
  /**
   * The same for statements that change something, all of them or none: they become one transaction, unless they are part of one that was
   * begun. Sent only while this process holds the rotation, and refused by the server, on its own clock, when they arrive or end more than
   * `LATEST_EFFECT_MS` after they were sent: so a process that is frozen, or cut off, in between changes nothing later than that.
   * `then` are statements that look at the outcome, after the commit; only their results are given.
   * @throws RotationInterruptedError, PostgresTargetError
   */
  change(statements: readonly string[], then?: readonly string[]): Promise<pg.QueryResult[]>;
  /** Takes back the transaction that was begun. */
  rollBack(): Promise<void>;
  /** The server's time in milliseconds since the epoch, as this process reckons it: early by no more than one round trip, never late. */
  serverNow(): Promise<number>;
}

/** How long after it was sent a change may take effect at the latest, in milliseconds (plus one round trip). */
export const LATEST_EFFECT_MS = 10_000;

const CONNECT_TIMEOUT_MS = 5_000;
const QUERY_TIMEOUT_MS = 30_000;
/** How long the server may take to close a connection that was said farewell to. */
const LEAVE_LIMIT_MS = 2_000;

// A catalog change never waits longer than 5 s behind the application's own locks: everybody else would queue up behind it. And what a
// frozen process has begun is rolled back, its locks gone, soon after.
const TIME_LIMITS = [
  "SET lock_timeout = '5s'",
  `SET statement_timeout = ${LATEST_EFFECT_MS}`,
  `SET idle_in_transaction_session_timeout = ${LATEST_EFFECT_MS}`,
];

const SERVER_CLOCK = 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now';

/** What the server says about a change that comes too late; see `inTime`. */
const TOO_LATE = 'sent too long ago to take effect';

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

  /** Another database of the same server. */
  in(database: string): PostgresTarget {
    return new PostgresTarget({ ...this.connection, database });
  }

  /**
   * Logs in, works, and leaves, whatever happens; an abort of `signal` cuts the connection.
   * @throws PostgresTargetError `TARGET_REFUSED` when the log-in is refused, `TARGET_UNREACHABLE` when nobody answers.
   */
  async session<R>(
    credentials: DatabaseCredentials,
    doing: string,
    context: StepContext,
    work: (session: TargetSession) => Promise<R>,
  ): Promise<R> {
    const { signal } = context;
    signal.throwIfAborted();
    let wire: Duplex | undefined;
    const client = new Client({
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      ...this.connection,
      stream: () => (wire = this.connection.stream?.() ?? new Socket()),
      application_name: 'nestjs-secrets',
      user: credentials.username,
      password: credentials.password,
    });
    // A broken connection also fails the query in flight; without a listener it would take the process down as well.
    client.on('error', () => undefined);
    // pg has no time limit for leaving, and once told to leave never settles a `connect` that is under way: only the end of the wire ends either.
    const cut = (): void => void wire?.destroy();
    const leave = async (): Promise<void> => {
      const left = new AbortController();
      const farewell = client.end().catch(() => undefined);
      await Promise.race([farewell, pause(context.clock, LEAVE_LIMIT_MS, left.signal)]);
      left.abort();
      cut();
    };
    signal.addEventListener('abort', cut, { once: true });
    try {
      const translated = async <T>(answer: Promise<T>): Promise<T> => {
        try {
          return await answer;
        } catch (error) {
          signal.throwIfAborted();
          if (error instanceof Error && error.message.includes(TOO_LATE)) throw tooLate(this.label, doing);
          throw targetError(error, this.label, doing);
        }
      };
      await translated(client.connect());
      const send = async (statements: readonly string[]): Promise<pg.QueryResult[]> => {
        const answer: pg.QueryResult | pg.QueryResult[] = await translated(client.query(statements.join(';\n')));
        return Array.isArray(answer) ? answer : [answer];
      };
      // What to add to this process's time to get the server's. Measured with the first statements, which need no trip of their own for it.
      let ahead: number | undefined;
      const run = async (statements: readonly string[]): Promise<pg.QueryResult[]> => {
        if (ahead !== undefined) return statements.length === 0 ? [] : send(statements);
        const prologue = [SAFE_SEARCH_PATH, NO_JIT, ...TIME_LIMITS, SERVER_CLOCK];
        const results = await send([...prologue, ...statements]);
        // Against the time of the answer: the server read its clock before that, so the sum is never past its time.
        ahead = Number(results[prologue.length - 1]?.rows[0]?.now) - context.clock.now();
        return results.slice(prologue.length);
      };
      const serverNow = async (): Promise<number> => {
        if (ahead === undefined) await run([]);
        return context.clock.now() + (ahead ?? 0);
      };
      let inTransaction = false;
      return await work({
        client,
        run: async (statements) => {
          inTransaction ||= statements[0] === 'BEGIN';
          return run(statements);
        },
        serverNow,
        rollBack: async () => {
          inTransaction = false;
          await run(['ROLLBACK']);
        },
        change: async (statements, then = []) => {
          // Before the assertion, so that nothing is awaited between it and the statements.
          await serverNow();
          const commits = statements.at(-1) === 'COMMIT';
          const body = commits ? statements.slice(0, -1) : statements;
          const begin = inTransaction ? [] : ['BEGIN'];
          const end = inTransaction && !commits ? [] : ['COMMIT'];
          // The time limit is set first: a pause just before or after the assertion counts as well.
          const guard = inTime(context.clock.now() + (ahead ?? 0) + LATEST_EFFECT_MS);
          context.assertHolder();
          const answer = send([...begin, guard, ...body, guard, ...end, ...then]);
          if (end.length > 0) inTransaction = false;
          const results = await answer;
          return results.slice(results.length - then.length);
        },
      });
    } finally {
      signal.removeEventListener('abort', cut);
      await leave();
    }
  }

  /**
   * Whether these credentials open the server: true when they log in, false when the server refuses them as credentials.
   * @throws PostgresTargetError `TARGET_UNREACHABLE` or `TARGET_FAILED` when the answer is neither, and so proves nothing.
   */
  async logsIn(credentials: DatabaseCredentials, doing: string, context: StepContext): Promise<boolean> {
    try {
      await this.session(credentials, doing, context, async () => undefined);
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

/**
 * A statement that fails when the server's clock is past `latest`, and the transaction with it. The text of the failed cast is the only
 * way to an error message of one's own without a procedural language; it holds the time so that the planner cannot evaluate it ahead.
 */
function inTime(latest: number): string {
  const isLate = `clock_timestamp() > to_timestamp(${latest / 1000})`;
  return `SELECT CASE WHEN ${isLate} THEN ('${TOO_LATE}: ' || clock_timestamp())::int END`;
}

function tooLate(label: string, doing: string): PostgresTargetError {
  return new PostgresTargetError(
    'TARGET_UNREACHABLE',
    `PostgreSQL ${label}, ${doing}: the statements reached the server, or ended, more than ${LATEST_EFFECT_MS / 1000} s after they were sent, and were rolled back. Look for a paused process, a slow network or locks; the step is done again.`,
  );
}
