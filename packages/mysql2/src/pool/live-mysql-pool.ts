import type {
  DatabaseCredentials,
  PoolGeneration,
  RollingPool,
  Secret,
  SecretAttachment,
  SecretLink,
  SecretVersion,
} from '@nestjs-secrets/core';
import {
  ConnectionRegister,
  CredentialChoice,
  LivePoolClosedError,
  LogInAttempts,
  PauseGate,
  Roll,
  secretLink,
  WaitingCallers,
} from '@nestjs-secrets/core';
import type { PoolConnection } from 'mysql2';
import { IdleLimit } from './idle-limit.js';
import type { ConnectionKeeper } from './live-connection.js';
import { LiveConnection } from './live-connection.js';
import type { LiveMysqlPoolConfig } from './live-mysql-pool-config.js';
import { describeTarget, withoutCredentials } from './live-mysql-pool-config.js';
import { LogIn } from './log-in.js';
import type { EndCallback } from './mysql2-classes.js';
import { Pool } from './mysql2-classes.js';
import type { Refusal } from './server-refusals.js';
import { deniedStatement } from './server-refusals.js';

const DEFAULT_END_TIMEOUT_MS = 10_000;
// A connection opened with a candidate works, so asking again whether the current version is accepted by now is no matter of haste.
const STAND_IN_RECHECK_MS = 1000;

type GetConnectionCallback = (error: NodeJS.ErrnoException | null, connection: PoolConnection) => unknown;

interface Caller {
  readonly callback: GetConnectionCallback;
  readonly attempts: LogInAttempts;
}

/**
 * A mysql2 pool whose user and password are those of a secret, always the newest: it takes on a rotated credential without a failed query,
 * an interrupted transaction or a lost waiter. Use it wherever a mysql2 pool goes: plain mysql2, its promises through `promise()`, Kysely,
 * Drizzle.
 *
 * After a change of the secret, connections of the old version are replaced at a gentle pace, each new one opened before an old one goes;
 * busy ones stay until they come back. A log-in the server refuses is tried again with each other version of the secret that may be
 * valid, before the caller gets the refusal.
 */
export class LiveMysqlPool extends Pool {
  readonly #label: string;
  readonly #choice: CredentialChoice;
  readonly #register = new ConnectionRegister<LiveConnection>();
  readonly #roll: Roll<LiveConnection>;
  readonly #logIn: LogIn;
  readonly #link: SecretLink<DatabaseCredentials>;
  readonly #attachment: SecretAttachment;
  readonly #changes: { unsubscribe(): void };
  readonly #callers = new WaitingCallers<Caller>();
  readonly #gate: PauseGate<Caller>;
  /** The callers no connection is being opened for, since the pool is full. */
  readonly #queue: Caller[] = [];
  /** All that count against the limit. */
  readonly #connections = new Set<LiveConnection>();
  /** Those that callers have. */
  readonly #lent = new Set<LiveConnection>();
  /** The one used last at the end. */
  readonly #idle: LiveConnection[] = [];
  readonly #idleLimit: IdleLimit<LiveConnection> | undefined;
  readonly #keeper: ConnectionKeeper;
  readonly #endTimeoutMs: number;
  #closed: Promise<void> | undefined;

  /**
   * @throws LivePoolConfigError when the `uri` cannot be read.
   */
  constructor(secret: Secret<DatabaseCredentials>, config: LiveMysqlPoolConfig = {}) {
    const completed = withoutCredentials(config);
    const { connectionLimit = 0, maxIdle = 0 } = completed;
    // The pool of mysql2 keeps no connection here, and so none to look after with its timer.
    super({ config: Object.assign(completed, { maxIdle: connectionLimit }) });
    completed.maxIdle = maxIdle;
    if (maxIdle < connectionLimit) {
      const idleTimeoutMs = completed.idleTimeout ?? 0;
      this.#idleLimit = new IdleLimit({ maxIdle, idleTimeoutMs }, this.#idle, (idle) => this.#evict(idle));
    }
    this.#label = `mysql2 pool ${describeTarget(completed)}`;
    this.#endTimeoutMs = config.endTimeoutMs ?? DEFAULT_END_TIMEOUT_MS;
    this.#choice = new CredentialChoice(secret, () => this.#attachment.update());
    this.#link = secretLink(secret);
    this.#logIn = new LogIn(this.#choice, this.#register, (versionId, refusal) => this.#report(versionId, refusal));
    this.#keeper = this.#createKeeper();
    this.#roll = this.#createRoll(config);
    this.#gate = new PauseGate({
      link: this.#link,
      clear: () => this.#roll.dropIdle((idle) => this.#isOld(idle)),
      resume: (heldBack) => {
        const waiting = new Set([...this.#queue.splice(0), ...heldBack]);
        this.#queue.push(...[...this.#callers].filter((caller) => waiting.has(caller)));
        this.#serveQueue();
      },
    });
    this.#attachment = this.#link.attach({
      label: this.#label,
      holds: () => new Set([...this.#register.versionIds(), ...this.#choice.kept()]),
    });
    this.#register.listen({
      generationsChanged: () => this.#attachment.update(),
      closed: (connection, closed) => this.#roll.closed(connection, closed),
    });
    this.#changes = secret.changes$.subscribe(() => {
      this.#choice.startOver();
      this.#roll.wake();
    });
  }

  /** The pool's connections by the version of the secret they were opened with. */
  generations(): ReadonlyMap<string, PoolGeneration> {
    return this.#register.generations();
  }

  /**
   * @throws LivePoolClosedError, to the callback, after `end()`; LivePoolCredentialsError when the secret's value is no username and password.
   */
  override getConnection(callback: GetConnectionCallback): void {
    const caller: Caller = { callback, attempts: new LogInAttempts() };
    this.#callers.add(caller);
    if (this.#closed !== undefined) {
      process.nextTick(() => this.#fail(caller, new LivePoolClosedError(this.#label)));
      return;
    }
    if (this.#gate.holdsBack(caller) || this.#serve(caller)) return;
    const { waitForConnections, queueLimit } = this.config;
    if (!waitForConnections || (queueLimit && this.#queue.length >= queueLimit)) {
      const error = new Error(waitForConnections ? 'Queue limit reached.' : 'No connections available.');
      process.nextTick(() => this.#fail(caller, error));
      return;
    }
    this.#queue.push(caller);
    this.emit('enqueue');
  }

  override releaseConnection(connection: { release(): void }): void {
    // mysql2 calls this, too, for connections that are no longer of the pool: nothing is to be done for those.
    if (!(connection instanceof LiveConnection) || this.#lent.has(connection)) connection.release();
  }

  /**
   * Refuses new callers, serves those already waiting as connections come back, and resolves when the last socket has closed. Connections
   * that are checked out are waited for. Calling it again gives the same promise.
   * After `endTimeoutMs` callers still waiting are rejected with LivePoolClosedError.
   */
  override end(): Promise<void>;
  override end(callback: EndCallback): void;
  override end(callback?: EndCallback): Promise<void> | void {
    this.#closed ??= this.#close();
    if (callback === undefined) return this.#closed;
    void this.#closed.then(() => callback(null));
  }

  /** False when there is neither an idle connection for the caller nor room for one more. */
  #serve(caller: Caller): boolean {
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      this.#idleLimit?.noLongerIdle(idle);
      this.#pass(idle, caller);
      return true;
    }
    const limit = this.config.connectionLimit ?? 0;
    if (limit !== 0 && this.#connections.size >= limit) return false;
    this.#openFor(caller);
    return true;
  }

  /** Serves those in the queue as far as there is something to serve them with. */
  #serveQueue(): void {
    for (let caller = this.#queue.shift(); caller !== undefined; caller = this.#queue.shift()) {
      if (this.#callers.has(caller) && !this.#serve(caller)) {
        this.#queue.unshift(caller);
        return;
      }
    }
  }

  #openFor(caller: Caller): void {
    this.#open((error, connection) => {
      if (connection !== undefined) {
        this.#handOut(connection, caller);
        return;
      }
      const refused = this.#choice.blamedFor(error);
      if (refused === undefined || !caller.attempts.note(refused)) {
        this.#fail(caller, error);
        return;
      }
      void this.#choice.goesOn(caller.attempts).then((goOn) => {
        if (!goOn) this.#fail(caller, error);
        else this.#serveFirst(caller);
      });
    });
  }

  /** For somebody who was at the front already. */
  #serveFirst(caller: Caller): void {
    if (this.#callers.has(caller) && !this.#serve(caller)) this.#queue.unshift(caller);
  }

  /** Opens one connection more, whatever the limit. */
  #open(callback: (error: Error | undefined, connection: LiveConnection | undefined) => void): void {
    const connect = (version: SecretVersion<DatabaseCredentials>): LiveConnection => {
      const connection = new LiveConnection(this, this.config.connectionConfig, version, this.#keeper);
      this.#connections.add(connection);
      return connection;
    };
    this.#logIn.begin(connect, (error, connection) => {
      if (error || connection === undefined) {
        if (connection !== undefined) this.#discard(connection);
        // First, since the caller may throw.
        this.#serveQueue();
        callback(error, undefined);
        return;
      }
      // The secret changed during the log-in, or this is a stand-in: then it may stay until the current version is accepted.
      if (this.#isOld(connection)) this.#roll.wake(this.#register.isStandIn(connection) ? STAND_IN_RECHECK_MS : 0);
      this.emit('connection', connection);
      callback(undefined, connection);
    });
  }

  #discard(connection: LiveConnection): void {
    this.#forget(connection);
    connection.destroy();
  }

  #isOld(connection: LiveConnection): boolean {
    return this.#register.isOld(connection, this.#choice.currentVersionId);
  }

  #report(versionId: string, refusal: Refusal): void {
    this.#link.report({ ...refusal, versionId, consumer: this.#label });
  }

  #pass(connection: LiveConnection, caller: Caller): void {
    this.#register.mark(connection, 'busy');
    process.nextTick(() => this.#handOut(connection, caller));
  }

  /** The one place where a connection leaves the pool for a caller. */
  #handOut(connection: LiveConnection, caller: Caller): void {
    if (!this.#register.isUsable(connection)) {
      // It broke on the way.
      this.#serveFirst(caller);
      return;
    }
    if (!this.#callers.has(caller) || this.#gate.holdsBack(caller)) {
      this.#takeBack(connection);
      return;
    }
    this.#callers.settle(caller);
    this.#lent.add(connection);
    this.emit('acquire', connection);
    caller.callback(null, connection);
  }

  #fail(caller: Caller, error: Error | undefined): void {
    // As mysql2 has it: nobody looks at the connection beside an error.
    const noConnection = undefined as unknown as PoolConnection;
    if (this.#callers.settle(caller)) caller.callback(error ?? new Error('No connection.'), noConnection);
  }

  #takeBack(connection: LiveConnection): void {
    if (!this.#register.isUsable(connection)) return;
    const caller = this.#roll.claims(connection) ? 'leave' : this.#queue.shift();
    if (caller === 'leave' || (caller === undefined && this.#closed !== undefined)) {
      this.#evict(connection);
    } else if (caller !== undefined) {
      this.#pass(connection, caller);
    } else {
      this.#register.mark(connection, 'idle');
      this.#idle.push(connection);
      this.#idleLimit?.becameIdle(connection);
    }
    this.emit('release', connection);
  }

  #evict(connection: LiveConnection): void {
    this.#forget(connection);
    connection.quit();
    this.#serveQueue();
  }

  /** From now on it is not counted, lent or handed out. */
  #forget(connection: LiveConnection): boolean {
    this.#register.mark(connection, 'leaving');
    this.#lent.delete(connection);
    const index = this.#idle.indexOf(connection);
    if (index !== -1) this.#idle.splice(index, 1);
    this.#idleLimit?.noLongerIdle(connection);
    return this.#connections.delete(connection);
  }

  async #close(): Promise<void> {
    this.#changes.unsubscribe();
    this.#roll.stop();
    for (const caller of await this.#callers.served(this.#endTimeoutMs)) {
      this.#fail(caller, new LivePoolClosedError(this.#label, this.#endTimeoutMs));
    }
    for (const idle of this.#idle.slice()) this.#evict(idle);
    await this.#register.empty();
    this.#attachment.detach();
  }

  #createKeeper(): ConnectionKeeper {
    return {
      released: (connection) => {
        if (!this.#lent.delete(connection)) return;
        if (!(this.config as { resetOnRelease?: boolean }).resetOnRelease) {
          this.#takeBack(connection);
          return;
        }
        connection.reset((error) => (error ? connection.destroy() : this.#takeBack(connection)));
      },
      gone: (connection) => {
        if (this.#forget(connection)) this.#serveQueue();
      },
      closed: (connection) => this.#register.closed(connection),
      failed: (connection, error) => {
        const denied = deniedStatement(error);
        if (denied !== undefined) this.#report(connection.versionId, denied);
      },
    };
  }

  #createRoll({ replacement, warmUp }: LiveMysqlPoolConfig): Roll<LiveConnection> {
    const pool: RollingPool<LiveConnection> = {
      open: (callback) =>
        this.#open((error, connection) =>
          callback(error, connection, (destroy) => {
            if (connection === undefined) return;
            if (destroy) this.#evict(connection);
            else this.#takeBack(connection);
          }),
        ),
      idle: () => this.#idle.slice(),
      evict: (connection) => this.#evict(connection),
    };
    return new Roll(pool, this.#register, this.#choice, {
      ...replacement,
      warmUp: async (connection) => warmUp?.(connection),
    });
  }
}
