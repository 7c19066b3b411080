import mysql, { type Connection, type ConnectionOptions, type RowDataPacket } from 'mysql2/promise';
import { isSecretsError, type DatabaseCredentials } from '@nestjs-secrets/core';
import { targetError } from './mysql-target-errors.js';
import { dialectOf, type ServerDialect } from './server-dialect.js';

/** Where a server is and how to reach it: mysql2's own options, without the credentials. */
export type MysqlConnection = Omit<
  ConnectionOptions,
  'user' | 'password' | 'password1' | 'password2' | 'password3' | 'uri' | 'passwordSha1' | 'multipleStatements'
>;

/** What a step lends to its sessions. */
export interface StepHold {
  readonly signal: AbortSignal;
  assertHolder(): void;
}

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
   * Runs a statement that changes the target, in the same turn in which the step was found to hold the rotation still.
   * @throws MysqlTargetError, RotationInterruptedError
   */
  change(statement: string): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;

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
    return this.connected(credentials, doing, hold.signal, undefined, async (client, translated) => {
      const read = async <T>(sql: string): Promise<T[]> => {
        const [rows] = await translated(client.query<RowDataPacket[]>({ sql, timeout: STATEMENT_TIMEOUT_MS }));
        return rows as unknown as T[];
      };
      await read("SET SESSION sql_mode = ''");
      const [row] = await read<{ version: string }>('SELECT VERSION() AS version');
      return work({
        client,
        dialect: dialectOf(row?.version ?? '', this.label),
        read,
        change: async (sql) => {
          hold.signal.throwIfAborted();
          hold.assertHolder();
          await translated(client.query({ sql, timeout: STATEMENT_TIMEOUT_MS }));
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
    signal: AbortSignal,
    work: (client: Connection) => Promise<void>,
  ): Promise<void> {
    await this.connected(credentials, doing, signal, this.database, work);
  }

  /**
   * Whether these credentials open the server: true when they log in, false when the server refuses them as credentials.
   * @throws MysqlTargetError `TARGET_UNREACHABLE` or `TARGET_FAILED` when the answer is neither, and so proves nothing.
   */
  async logsIn(credentials: DatabaseCredentials, doing: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.connected(credentials, doing, signal, undefined, async () => undefined);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }

  private async connected<R>(
    credentials: DatabaseCredentials,
    doing: string,
    signal: AbortSignal,
    database: string | undefined,
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
    const client = await translate(
      mysql.createConnection({
        connectTimeout: CONNECT_TIMEOUT_MS,
        ...connection,
        ...(database === undefined ? {} : { database }),
        // What is quoted here is quoted for UTF-8.
        charset: 'utf8mb4',
        multipleStatements: false,
        user,
        password,
      }),
      'log-in',
    );
    // A broken connection also fails the query in flight; without a listener it would take the process down as well.
    client.on('error', () => undefined);
    const onAbort = (): void => client.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      return await work(client, (answer) => translate(answer, 'statement'));
    } finally {
      signal.removeEventListener('abort', onAbort);
      await client.end().catch(() => client.destroy());
    }
  }
}

/** True when a session could not be opened because its credentials were refused. */
export function isRefusal(error: unknown): boolean {
  return isSecretsError(error, 'TARGET_REFUSED');
}
