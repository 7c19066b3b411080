import type { DatabaseCredentials, PoolGeneration, Renewal, Secret, SecretAttachment } from '@nestjs-secrets/core';
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
import pg from 'pg';
import { Eviction } from './eviction.js';
import { liveClientClass, type ReportRefusal } from './live-client.js';
import type { LivePoolConfig } from './live-pool-config.js';
import { describeTarget, withoutCredentials } from './live-pool-config.js';
import type { ConnectCallback, ReleaseClient } from './pool-internals.js';
import { poolInternals } from './pool-internals.js';
import { RecentStatements } from './recent-statements.js';

const DEFAULT_END_TIMEOUT_MS = 10_000;
// A connection opened with a candidate works, so asking again whether the current version is accepted by now is no matter of haste.
const STAND_IN_RECHECK_MS = 1000;

interface Waiter {
  readonly callback: ConnectCallback;
  readonly attempts: LogInAttempts;
}

/**
 * A `pg.Pool` whose user and password are those of a secret, always the newest: it takes on a rotated credential without a failed query,
 * an interrupted transaction or a lost waiter. Use it wherever a `pg.Pool` goes: plain pg, Kysely, Drizzle, MikroORM, Prisma's adapter.
 *
 * After a change of the secret, connections of the old version are replaced at a gentle pace, each new one opened before an old one goes;
 * busy ones stay until they come back. A log-in the server refuses (SQLSTATE 28P01, 28000) is tried again with each other version
 * of the secret that may be valid, before the caller gets the refusal.
 */
export class LivePool extends pg.Pool {
  readonly #label: string;
  readonly #choice: CredentialChoice;
  readonly #register: ConnectionRegister<pg.ClientBase>;
  readonly #renewal: Renewal<pg.ClientBase>;
  readonly #attachment: SecretAttachment;
  readonly #changes: { unsubscribe(): void };
  readonly #waiters = new WaitingCallers<Waiter>();
  readonly #gate: PauseGate<Waiter>;
  readonly #endTimeoutMs: number;
  #closed: Promise<void> | undefined;

  /**
   * @throws LivePoolConfigError when the connection string cannot be read.
   */
  constructor(secret: Secret<DatabaseCredentials>, config: LivePoolConfig = {}) {
    const link = secretLink(secret);
    const choice = new CredentialChoice(secret, () => this.#attachment.update());
    const register = new ConnectionRegister<pg.ClientBase>();
    const statements = new RecentStatements();
    const options = withoutCredentials(config);
    const label = `pg pool ${describeTarget(options)}`;
    const report: ReportRefusal = (versionId, kind, code) => link.report({ versionId, kind, code, consumer: label });
    super({ ...options, Client: liveClientClass(choice, register, statements, report) });
    this.#choice = choice;
    this.#register = register;
    this.#label = label;
    this.#endTimeoutMs = config.endTimeoutMs ?? DEFAULT_END_TIMEOUT_MS;
    this.#renewal = this.#createRenewal(config, statements);
    this.#gate = new PauseGate<Waiter>({
      link,
      clear: () => this.#renewal.dropIdle((client) => register.isOld(client, choice.currentVersionId)),
      resume: (heldBack) => this.#resume(heldBack),
    });
    this.#attachment = link.attach({
      label,
      holds: () => new Set([...register.versionIds(), ...choice.kept()]),
    });
    register.listen({
      generationsChanged: () => this.#attachment.update(),
      closed: (client, connection) => this.#renewal.closed(client, connection),
    });
    this.on('acquire', (client) => register.mark(client, 'busy'));
    this.on('release', (_error, client) => register.mark(client, 'idle'));
    this.on('connect', (client) => {
      register.mark(client, 'busy');
      // The secret changed during the log-in, or this is a stand-in: then it may stay until the current version is accepted.
      if (register.isOld(client, choice.currentVersionId)) {
        this.#renewal.wake(register.isStandIn(client) ? STAND_IN_RECHECK_MS : 0);
      }
    });
    this.#changes = secret.changes$.subscribe(() => {
      choice.startOver();
      this.#renewal.wake();
    });
  }

  /** The pool's connections by the version of the secret they were opened with. */
  generations(): ReadonlyMap<string, PoolGeneration> {
    return this.#register.generations();
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(
    callback: (error: Error | undefined, client: pg.PoolClient | undefined, release: ReleaseClient) => void,
  ): void;
  override connect(callback?: ConnectCallback): Promise<pg.PoolClient> | void {
    if (callback === undefined) {
      return new Promise((resolve, reject) => {
        this.connect((error, client) => (client === undefined ? reject(error) : resolve(client)));
      });
    }
    if (this.#closed !== undefined) {
      const error = new LivePoolClosedError(this.#label);
      process.nextTick(callback, error, undefined, () => undefined);
      return;
    }
    const waiter: Waiter = { callback, attempts: new LogInAttempts() };
    this.#waiters.add(waiter);
    this.#acquire(waiter);
  }

  /**
   * Refuses new callers, serves those already waiting as connections come back, and resolves when the last socket has closed. Connections
   * that are checked out are waited for. Calling it again gives the same promise.
   * After `endTimeoutMs` callers still waiting are rejected with LivePoolClosedError.
   */
  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: (error?: Error) => void): Promise<void> | void {
    this.#closed ??= this.#close();
    if (callback === undefined) return this.#closed;
    this.#closed.then(() => callback(), callback);
  }

  #acquire(waiter: Waiter): void {
    if (this.#gate.holdsBack(waiter)) return;
    super.connect((error, client, release) => {
      if (client !== undefined) {
        this.#handOver(waiter, client, release);
        return;
      }
      const refused = this.#choice.blamedFor(error);
      if (refused === undefined || !waiter.attempts.note(refused)) {
        this.#fail(waiter, error);
        return;
      }
      void this.#choice.goesOn(waiter.attempts).then((goOn) => {
        if (goOn && this.#waiters.has(waiter)) this.#acquire(waiter);
        else this.#fail(waiter, error);
      });
    });
  }

  #handOver(waiter: Waiter, client: pg.PoolClient, release: ReleaseClient): void {
    const isWaiting = this.#waiters.has(waiter);
    if (!isWaiting || this.#gate.holdsBack(waiter)) {
      release(isWaiting && this.#renewal.claims(client));
      return;
    }
    this.#waiters.settle(waiter);
    let released = false;
    client.release = (destroy) => {
      // pg-pool throws when a client is released twice, which must not cost a second connection its place.
      const leaves = !released && this.#renewal.claims(client);
      released = true;
      release(destroy || leaves);
    };
    waiter.callback(undefined, client, client.release);
  }

  #resume(heldBack: ReadonlySet<Waiter>): void {
    for (const waiter of this.#waiters) {
      if (heldBack.has(waiter)) this.#acquire(waiter);
    }
  }

  #fail(waiter: Waiter, error: Error | undefined): void {
    if (this.#waiters.settle(waiter)) waiter.callback(error, undefined, () => undefined);
  }

  async #close(): Promise<void> {
    this.#changes.unsubscribe();
    this.#renewal.stop();
    for (const waiter of await this.#waiters.served(this.#endTimeoutMs)) {
      this.#fail(waiter, new LivePoolClosedError(this.#label, this.#endTimeoutMs));
    }
    await super.end();
    await this.#register.empty();
    this.#attachment.detach();
  }

  #createRenewal({ replacement, warmUp }: LivePoolConfig, statements: RecentStatements): Renewal<pg.ClientBase> {
    const internals = poolInternals(this);
    if (internals === undefined) {
      return new Eviction(this, this.#register, this.#choice, (callback) => super.connect(callback));
    }
    return new Roll(internals, this.#register, this.#choice, {
      ...replacement,
      warmUp: async (client) => {
        await statements.rehearse(client);
        await warmUp?.(client);
      },
    });
  }
}
