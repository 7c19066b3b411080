import { EventEmitter } from 'node:events';
import type { ConnectionRegister, CredentialChoice, CredentialFailure } from '@nestjs-secrets/core';
import pg from 'pg';
import type { RecentStatements } from './recent-statements.js';
import { isRefusal } from './refusal.js';

type Connected = (error: Error | null) => void;

/** Told of everything the server refuses to a version for what it is. */
export type ReportRefusal = (versionId: string, kind: CredentialFailure['kind'], code: string) => void;

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const INSUFFICIENT_PRIVILEGE = '42501';

/**
 * A `pg.Client` that takes user and password, both of one version, at the moment it is made, and is in the register under that version
 * until its socket has closed.
 */
export function liveClientClass(
  choice: CredentialChoice,
  register: ConnectionRegister<pg.ClientBase>,
  statements: RecentStatements,
  report: ReportRefusal,
): new (config?: pg.ClientConfig) => pg.Client {
  return class LiveClient extends pg.Client {
    readonly #login: Login;

    constructor(config: pg.ClientConfig = {}) {
      const login = drawLogin(choice);
      // A function, since pg falls back to PGPASSWORD and the password file when there is only a string and it is empty.
      super({ ...config, user: login.username, password: () => login.password() });
      this.#login = login;
      register.add(this, login.versionId, choice.currentVersionId);
      this.once('end', () => register.closed(this));
      // Rotation ends sessions that are held for too long, and pg ends the process when nobody listens to a client that is checked out at that
      // moment. Whoever holds it is told by his next query.
      this.on('error', () => undefined);
      statements.observe(this);
      // The protocol's ErrorResponse, below every way of asking, and for ever silent while all goes well.
      messagesOf(this)?.on('errorMessage', (message) => {
        if (message.code === INSUFFICIENT_PRIVILEGE) report(login.versionId, 'permission', message.code);
      });
    }

    override connect(): Promise<pg.Client>;
    override connect(callback: Connected): void;
    override connect(callback?: Connected): Promise<pg.Client> | void {
      if (callback === undefined) {
        return new Promise((resolve, reject) => this.connect((error) => (error ? reject(error) : resolve(this))));
      }
      const { failure, versionId } = this.#login;
      if (failure !== undefined) {
        process.nextTick(() => this.#failed(failure, callback));
        return;
      }
      super.connect((error: Error | null) => {
        forgetPassword(this);
        if (!error) {
          choice.accept(versionId);
          callback(null);
          return;
        }
        if (isRefusal(error)) {
          choice.blame(versionId, error);
          report(versionId, 'authentication', error.code);
        }
        this.#failed(error, callback);
      });
    }

    override end(): Promise<void>;
    override end(callback: (error: Error) => void): void;
    override end(callback?: (error: Error) => void): Promise<void> | void {
      register.mark(this, 'leaving');
      return callback === undefined ? super.end() : super.end(callback);
    }

    #failed(error: Error, callback: Connected): void {
      // pg leaves the socket open when it was the client that broke off the log-in.
      this.end(() => register.closed(this));
      callback(error);
    }
  };
}

interface Login {
  readonly versionId: string;
  readonly username: string;
  password(): string;
  /** Why there are no credentials. Kept for `connect` to report: pg-pool loses a waiter when the constructor of a client throws. */
  readonly failure?: Error;
}

function drawLogin(choice: CredentialChoice): Login {
  try {
    const { versionId, value } = choice.draw();
    return { versionId, username: value.username, password: () => value.password };
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error));
    return { versionId: choice.currentVersionId, username: '', password: () => '', failure };
  }
}

/** pg keeps what the password function gave in two places for as long as the connection lives, though it needs it for the log-in only. */
function forgetPassword(client: pg.Client & { connectionParameters?: { password?: unknown } }): void {
  client.password = undefined;
  if (client.connectionParameters !== undefined) client.connectionParameters.password = undefined;
}

interface ServerMessages {
  on(event: 'errorMessage', listener: (message: { readonly code?: string }) => void): unknown;
}

/**
 * The wire of a client, which pg-pool uses under the same name. A contract test holds it against the installed pg; a version without it
 * would cost the reports of refused statements, and nothing else.
 */
function messagesOf(client: pg.Client & { connection?: unknown }): ServerMessages | undefined {
  const connection = client.connection;
  return connection instanceof EventEmitter ? connection : undefined;
}
