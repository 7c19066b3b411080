import type { DatabaseCredentials, SecretVersion } from '@nestjs-secrets/core';
import { errorMonitor } from 'node:events';
import type { ConnectionOptions, Pool, QueryError } from 'mysql2';
import { Connection, PoolConnection } from './mysql2-classes.js';
import type { Command } from './mysql2-classes.js';

/** What a connection tells the pool that keeps it. */
export interface ConnectionKeeper {
  /** It was given back. Told again each time somebody gives it back. */
  released(connection: LiveConnection): void;
  /** It is of no use any more: it broke, or was told to go. Told again when more goes wrong. */
  gone(connection: LiveConnection): void;
  /** Its socket has closed. */
  closed(connection: LiveConnection): void;
  /** One of its commands failed. */
  failed(connection: LiveConnection, error: unknown): void;
}

/**
 * A pooled connection that logs in with one version of a secret, user and password both of it, and tells its keeper what becomes of it.
 * An ordinary `PoolConnection` to whoever borrows it.
 */
export class LiveConnection extends PoolConnection {
  readonly #keeper: ConnectionKeeper;
  readonly #version: SecretVersion<DatabaseCredentials>;

  constructor(
    pool: Pool,
    config: ConnectionOptions,
    version: SecretVersion<DatabaseCredentials>,
    keeper: ConnectionKeeper,
  ) {
    super(pool, { config: withCredentials(config, version.value) });
    this.#version = version;
    this.#keeper = keeper;
    // The plain socket, which TLS replaces later; both close together.
    this.stream.once('close', () => keeper.closed(this));
    // mysql2 listens for the first error only, and an idle connection has nobody else who does.
    this.on('error', () => undefined);
  }

  get versionId(): string {
    return this.#version.versionId;
  }

  /** Tells how the log-in went. To be called once, in the turn in which the connection was made. */
  open(callback: (error: Error | undefined) => void): void {
    this.connect((error) => {
      this.#forgetPassword();
      if (!error) {
        const gone = (): void => this.#keeper.gone(this);
        // Before mysql2's own listeners, which give what is lost back to the pool.
        this.prependListener('error', gone);
        this.prependOnceListener('end', gone);
      }
      callback(error ?? undefined);
    });
  }

  /** Says goodbye to the server and closes, behind whatever still runs. */
  quit(): void {
    // Past PoolConnection's, which takes `end` for `release`.
    Connection.prototype.end.call(this, () => process.nextTick(() => this.stream.end()));
  }

  override release(): void {
    this.#keeper.released(this);
  }

  override destroy(): void {
    this.#keeper.gone(this);
    super.destroy();
  }

  override end(options?: unknown, callback?: (error: QueryError | null) => void): void {
    if ((this.config as { gracefulEnd?: boolean }).gracefulEnd === true) this.#keeper.gone(this);
    super.end(options, callback);
  }

  /** With the user and password the connection was opened with, where the options name no other. */
  override changeUser(options: ConnectionOptions, callback?: (error: QueryError | null) => void): void {
    const { username, password } = this.#version.value;
    super.changeUser({ user: username, password, ...options }, (error) => {
      this.#forgetPassword();
      callback?.(error);
    });
  }

  override addCommand(command: Command): Command {
    // The log-in is added by mysql2's constructor, before this one has run.
    if (#keeper in this) observe(command, (error) => this.#keeper.failed(this, error));
    return super.addCommand(command);
  }

  /** mysql2 keeps it for as long as the connection lives, though it needs it for log-ins only. */
  #forgetPassword(): void {
    delete this.config.password;
  }
}

/** A copy, since mysql2 up to 3.16 shares one configuration among all connections and reads it as late as the server's greeting. */
function withCredentials(config: ConnectionOptions, { username, password }: DatabaseCredentials): ConnectionOptions {
  const copy: ConnectionOptions = Object.create(
    Object.getPrototypeOf(config) as object,
    Object.getOwnPropertyDescriptors(config),
  );
  return Object.assign(copy, { user: username, password });
}

function observe(command: Command, failed: (error: unknown) => void): void {
  const { onResult } = command;
  if (typeof onResult !== 'function') {
    // Not an 'error' listener, which would count as somebody who handles the error.
    command.on(errorMonitor, failed);
    return;
  }
  command.onResult = function (error, ...results) {
    if (error) failed(error);
    onResult.call(this, error, ...results);
  };
}
