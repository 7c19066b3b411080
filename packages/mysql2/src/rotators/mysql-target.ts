import mysql, { type Connection, type ConnectionOptions, type RowDataPacket } from 'mysql2/promise';
import { isSecretsError, pause, type DatabaseCredentials, type RotationContext } from '@nestjs-secrets/core';
import { targetError } from './mysql-target-errors.js';
import { dialectOf, type ServerDialect } from './server-dialect.js';

/** Where a server is and how to reach it: mysql2's own options, without the credentials. */
export type MysqlConnection = Omit<
  ConnectionOptions,
  'user' | 'password' | 'password1' | 'password2' | 'password3' | 'uri' | 'passwordSha1' | 'multipleStatements'
>;

/** What a step lends to its sessions. */
export type StepHold = Pick<RotationContext, 'signal' | 'clock' | 'assertHolder'>;

/** What ends sessions that change nothing. */
export type StepLimits = Pick<StepHold, 'signal' | 'clock'>;

/** One open connection with an empty sql_mode; ends with the piece of work it was opened for. */
export interface TargetSession {
  readonly client: Connection;
  readonly dialect: ServerDialect;
  /**
   * Runs a statement that reads. Values go in through `literal` and names through `identifier`.
   * @throws MysqlTargetError
   */
  read<R>(statement: string): Promise<R[]>;
  /**
   * Runs a statement that changes the target, in the same turn in which the step was found to hold the rotation still. MariaDB refuses it, by
   * its own clock, when it arrives more than `LATEST_ARRIVAL_S` after it was sent: so a process that is cut off in between changes nothing
   * later than that.
   * @throws MysqlTargetError, RotationInterruptedError
   */
  change(statement: string): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
/** How long a connection may take to end in order. */
const LEAVE_LIMIT_MS = 2_000;

/** How long after it was sent a change may reach the server, in seconds; the server counts whole ones. */
const LATEST_ARRIVAL_S = 10;

// Whatever shape the application likes its rows in.
const PLAIN_ROWS: ConnectionOptions = { rowsAsArray: false, nestTables: false, typeCast: true };

// A change of an account waits behind backups and FLUSH TABLES WITH READ LOCK, but never for long.
const SESSION_SETTINGS = "SET SESSION sql_mode = '', SESSION lock_wait_timeout = 5";

/** One MySQL or MariaDB server, reached by short-lived connections. */
export class MysqlTarget {
  /** For messages: `db.example:3306`. */
  readonly label: string;
  readonly database: string | undefined;

  constructor(private readonly connection: MysqlConnection) {
    const { host, port, socketPath, database } = connection;
    this.label = socketPath ?? `${host ?? 'localhost'}:${port ?? 3306}`;
    this.database = database;
  }

  /**
   * Logs in without choosing a database, works, and leaves, whatever happens; an abort of the step cuts the connection.
   * @throws MysqlTargetError `TARGET_REFUSED` when the log-in is refused, `TARGET_UNREACHABLE` when nobody answers.
   */
  async session<R>(
    credentials: DatabaseCredentials,
    doing: string,
    hold: StepHold,
    work: (session: TargetSession) => Promise<R>,
  ): Promise<R> {
    return this.connected(credentials, doing, hold, PLAIN_ROWS, async (client, translated) => {
      const read = async <T>(sql: string): Promise<T[]> => {
        const [rows] = await translated(client.query<RowDataPacket[]>({ sql, timeout: STATEMENT_TIMEOUT_MS }));
        return rows as unknown as T[];
      };
      await read(SESSION_SETTINGS);
      const [row] = await read<{ version: string; now: number | string }>(
        'SELECT VERSION() AS version, UNIX_TIMESTAMP() AS now',
      );
      const dialect = dialectOf(row?.version ?? '', this.label);
      // What to add to this process's time to get the server's, which it read before now.
      const ahead = Number(row?.now ?? 0) * 1000 - hold.clock.now();
      return work({
        client,
        dialect,
        read,
        change: async (sql) => {
          hold.signal.throwIfAborted();
          // The limit is set first: a pause just before or after the assertion counts as well.
          const latest = Math.floor((hold.clock.now() + ahead) / 1000) + LATEST_ARRIVAL_S;
          hold.assertHolder();
          await translated(client.query({ sql: dialect.inTime(sql, latest), timeout: STATEMENT_TIMEOUT_MS }));
        },
      });
    });
  }

  /**
   * As the application would log in: with its database, and the server's own session settings.
   * @throws MysqlTargetError; and what `work` throws, as it is.
   */
  async asApplication(
    credentials: DatabaseCredentials,
    doing: string,
    step: StepLimits,
    work: (client: Connection) => Promise<void>,
  ): Promise<void> {
    const database = this.database === undefined ? {} : { database: this.database };
    await this.connected(credentials, doing, step, database, work);
  }

  /**
   * Whether these credentials open the server: true when they log in, false when the server refuses them as credentials.
   * @throws MysqlTargetError `TARGET_UNREACHABLE` or `TARGET_FAILED` when the answer is neither, and so proves nothing.
   */
  async logsIn(credentials: DatabaseCredentials, doing: string, step: StepLimits): Promise<boolean> {
    try {
      await this.connected(credentials, doing, step, PLAIN_ROWS, async () => undefined);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }

  private async connected<R>(
    credentials: DatabaseCredentials,
    doing: string,
    { signal, clock }: StepLimits,
    options: ConnectionOptions,
    work: (client: Connection, translated: <T>(answer: Promise<T>) => Promise<T>) => Promise<R>,
  ): Promise<R> {
    signal.throwIfAborted();
    const translate = async <T>(answer: Promise<T>, during: 'log-in' | 'statement'): Promise<T> => {
      try {
        return await answer;
      } catch (error) {
        signal.throwIfAborted();
        throw targetError(error, this.label, doing, during);
      }
    };
    const { username: user, password } = credentials;
    const { database: _chosenHere, ...connection } = this.connection;
    const abort = abortOf(signal);
    const opening = mysql.createConnection({
      connectTimeout: CONNECT_TIMEOUT_MS,
      ...connection,
      ...options,
      // What is quoted here is quoted for UTF-8.
      charset: 'utf8mb4',
      multipleStatements: false,
      connectAttributes: { program_name: 'nestjs-secrets' },
      user,
      password,
    });
    try {
      const client = await translate(Promise.race([opening, abort.promise]), 'log-in');
      // A broken connection also fails the query in flight; without a listener it would take the process down as well.
      client.on('error', () => undefined);
      return await Promise.race([work(client, (answer) => translate(answer, 'statement')), abort.promise]);
    } finally {
      abort.forget();
      const leave = async (client: Connection): Promise<void> => {
        if (signal.aborted) return client.destroy();
        // The farewell waits behind a statement that was given up, which may never be answered.
        const left = new AbortController();
        await Promise.race([client.end(), pause(clock, LEAVE_LIMIT_MS, left.signal)]).finally(() => left.abort());
        client.destroy();
      };
      const left = opening.then(leave).catch(() => undefined);
      // What was aborted waits for nobody, not even for the server to answer.
      if (!signal.aborted) await left;
    }
  }
}

/** Rejects when the signal is aborted: mysql2 never settles the queries of a connection that was destroyed. */
function abortOf(signal: AbortSignal): { readonly promise: Promise<never>; forget(): void } {
  let onAbort = (): void => undefined;
  const promise = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  promise.catch(() => undefined);
  return { promise, forget: () => signal.removeEventListener('abort', onAbort) };
}

/** True when a session could not be opened because its credentials were refused. */
export function isRefusal(error: unknown): boolean {
  return isSecretsError(error, 'TARGET_REFUSED');
}
