import {
  type DatabaseCredentials,
  type Secret,
  type SecretAttachment,
  secretLink,
  type SecretLink,
  type SecretVersion,
} from '@nestjs-secrets/core';
import type { SimulatedProcess } from './simulated-process.js';
import { type Session, type SimulatedTarget, TargetError } from './simulated-target.js';

/** What a caller of the pool was told. `blind`: refused while the secret's source could not name the other candidates either. */
export type PoolFailure = 'refused' | 'blind' | 'denied' | 'killed' | 'unreachable' | 'unavailable';

export interface PoolModelOptions {
  readonly size: number;
  /** False for the mutation check: a refusal goes to the caller at once. */
  readonly triesCandidates: boolean;
  /** Between two statements of one piece of work. */
  readonly thinkMs: () => number;
  /** `versionIds`: those of the connection, with the one it stood in for, or all that were refused. */
  readonly onFailure: (failure: PoolFailure, versionIds: readonly string[]) => void;
}

interface Connection {
  readonly versionId: string;
  /** The version that was current and refused, of a connection that was opened with a candidate. */
  readonly insteadOf: string | undefined;
  session: Session | undefined;
  state: 'opening' | 'idle' | 'busy' | 'closed';
}

type Version = SecretVersion<DatabaseCredentials>;

/** A connection pool as the live pools are, on the real `SecretLink`, over the simulated target. */
export class PoolModel {
  readonly #link: SecretLink<DatabaseCredentials>;
  readonly #attachment: SecretAttachment;
  readonly #connections = new Set<Connection>();
  readonly #waiters: (() => void)[] = [];
  /** Candidates that somebody is trying one after the other. */
  readonly #kept = new Set<readonly Version[]>();

  constructor(
    private readonly process: SimulatedProcess,
    private readonly secret: Secret<DatabaseCredentials>,
    private readonly target: SimulatedTarget,
    private readonly options: PoolModelOptions,
  ) {
    this.#link = secretLink(secret);
    this.#attachment = this.#link.attach({ label: 'pool', holds: () => this.versionIds() });
    secret.changes$.subscribe(() => {
      this.#drain();
      this.#attachment.update();
    });
  }

  /** The versions with connections, also those still being opened, those that stand-ins stand in for, and those about to be tried. */
  versionIds(): Set<string> {
    const held = new Set<string>();
    for (const { versionId, insteadOf } of this.#connections) held.add(versionId).add(insteadOf ?? versionId);
    for (const candidates of this.#kept) for (const { versionId } of candidates) held.add(versionId);
    return held;
  }

  /** One piece of work: takes a connection, runs statements on it, gives it back. Never rejects. */
  async work(statements: number): Promise<void> {
    const connection = await this.#acquire().catch((error: unknown) => {
      if (!(error instanceof TargetError)) this.options.onFailure('unavailable', [this.secret.versionId]);
      return undefined;
    });
    if (connection === undefined) return;
    const { session, versionId, insteadOf } = connection;
    try {
      for (let count = 0; session !== undefined && count < statements; count += 1) {
        await this.target.query(session);
        if (count + 1 < statements) await this.#think();
      }
      this.#release(connection, false);
    } catch (error) {
      this.#release(connection, true);
      const code = error instanceof TargetError ? error.code : 'unavailable';
      if (code === 'denied') this.#link.report({ versionId, kind: 'permission', code: '42501', consumer: 'pool' });
      this.options.onFailure(code, insteadOf === undefined ? [versionId] : [versionId, insteadOf]);
    }
  }

  async #acquire(): Promise<Connection> {
    for (;;) {
      const paused = this.#link.afterPause();
      if (paused !== undefined) {
        await paused;
        // What was opened before the pause may be dying: only what the secret now says counts.
        this.#drain();
        continue;
      }
      const idle = [...this.#connections].filter(({ state }) => state === 'idle');
      const found = idle.find((connection) => !this.#isOld(connection)) ?? idle[0];
      if (found !== undefined) {
        found.state = 'busy';
        return found;
      }
      if (this.#connections.size < this.options.size) {
        const opened = await this.#openAny();
        if (this.#link.afterPause() === undefined && opened.state === 'busy') return opened;
        this.#release(opened, false);
      } else await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Opens a connection with the current version or, when that is refused, with each candidate in turn. */
  async #openAny(): Promise<Connection> {
    const { name, versionId, value } = this.secret;
    const refused = new Set<string>();
    const refusedEver = new Set<string>();
    let begunAfter = 0;
    const opened = await this.#tryEach([{ name, versionId, value }], refused);
    if (opened !== undefined) return opened;
    if (!this.options.triesCandidates) return this.#giveUp('refused', refused);
    for (;;) {
      // Good for this turn only, unless they stand in `holds()`.
      const candidates = await this.#link.candidates().catch(() => undefined);
      if (candidates === undefined) return this.#giveUp('blind', refused);
      this.#kept.add(candidates);
      this.#attachment.update();
      try {
        if (candidates.every((candidate) => refused.has(candidate.versionId))) {
          // A change may have been made or undone between two log-ins: then one of them is right after all.
          for (const versionId of refused) refusedEver.add(versionId);
          if (refusedEver.size === begunAfter) return this.#giveUp('refused', refused);
          begunAfter = refusedEver.size;
          refused.clear();
        }
        const connection = await this.#tryEach(candidates, refused);
        if (connection !== undefined) return connection;
      } finally {
        this.#kept.delete(candidates);
        this.#attachment.update();
      }
    }
  }

  /** The first connection that opens; undefined when all were refused, which are then among `refused`. Rejects for any other failure. */
  async #tryEach(candidates: readonly Version[], refused: Set<string>): Promise<Connection | undefined> {
    for (const candidate of candidates) {
      if (refused.has(candidate.versionId)) continue;
      try {
        return await this.#open(candidate);
      } catch (error) {
        const code = error instanceof TargetError ? error.code : 'unavailable';
        if (code !== 'refused') {
          this.options.onFailure(code, [candidate.versionId]);
          throw error;
        }
        const { versionId } = candidate;
        refused.add(versionId);
        this.#link.report({ versionId, kind: 'authentication', code: '28P01', consumer: 'pool' });
      }
    }
    return undefined;
  }

  #giveUp(failure: PoolFailure, refused: ReadonlySet<string>): never {
    this.options.onFailure(failure, [...refused]);
    throw new TargetError('refused');
  }

  async #open({ versionId, value }: Version): Promise<Connection> {
    const insteadOf = versionId === this.secret.versionId ? undefined : this.secret.versionId;
    const connection: Connection = { versionId, insteadOf, session: undefined, state: 'opening' };
    this.#connections.add(connection);
    this.#attachment.update();
    try {
      const session = await this.target.logIn(this.process, value);
      connection.session = session;
      connection.state = 'busy';
      session.onKilled = () => this.#killed(connection);
      if (!session.isOpen) this.#killed(connection);
      return connection;
    } catch (error) {
      this.#remove(connection);
      throw error;
    }
  }

  #release(connection: Connection, isBroken: boolean): void {
    if (connection.state === 'closed') return;
    connection.state = 'idle';
    if (isBroken || this.#isOld(connection)) this.#close(connection);
    this.#waiters.shift()?.();
  }

  /** Ends idle connections of other versions. */
  #drain(): void {
    for (const connection of this.#connections)
      if (connection.state === 'idle' && this.#isOld(connection)) this.#close(connection);
    for (const wake of this.#waiters.splice(0)) wake();
  }

  #isOld({ versionId, insteadOf }: Connection): boolean {
    return insteadOf !== undefined || versionId !== this.secret.versionId;
  }

  #close(connection: Connection): void {
    if (connection.session !== undefined) this.target.close(connection.session);
    this.#remove(connection);
  }

  /** The server ended it: noticed while idle, or by the statement that fails. */
  #killed(connection: Connection): void {
    if (connection.state === 'idle') this.#remove(connection);
  }

  #remove(connection: Connection): void {
    connection.state = 'closed';
    this.#connections.delete(connection);
    this.#attachment.update();
    this.#waiters.shift()?.();
  }

  #think(): Promise<void> {
    return new Promise((resolve) => void this.process.clock.after(this.options.thinkMs(), resolve));
  }
}
