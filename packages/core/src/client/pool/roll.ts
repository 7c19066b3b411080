import type { ClosedConnection, ConnectionRegister } from './connection-register.js';
import type { CredentialChoice } from './credential-choice.js';
import type { Renewal } from './renewal.js';

const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 30_000;
const DEFAULT_PACE_MS = 20;

/** What a roll asks of a connection itself. */
export interface RollingConnection {
  on(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
}

type ReleaseConnection = (destroy?: boolean) => void;

/** What a roll asks of a pool. */
export interface RollingPool<C> {
  /** Opens one connection more, even when the pool is full, and hands it to the callback as if it had asked for it. */
  open(callback: (error: Error | undefined, connection: C | undefined, release: ReleaseConnection) => void): void;
  /** The idle connections. */
  idle(): readonly C[];
  /** Takes an idle connection out and ends it. */
  evict(connection: C): void;
}

export interface RollOptions<C> {
  /** Replacements under way at one time, and so the most connections beyond those there were: 1 by default. */
  readonly concurrency?: 1 | 2 | undefined;
  /** Milliseconds between the close of a replaced connection and the next replacement: 20 by default. */
  readonly paceMs?: number | undefined;
  readonly warmUp: (client: C) => Promise<unknown>;
}

/**
 * Replaces the connections of older versions one by one: opens one more with the current version, hands it in, and only then lets one old
 * one go: an idle one now, otherwise the next busy one that comes back. The pool so never has fewer connections than before, and never
 * more than `concurrency` beyond them. A busy connection that never comes back costs nothing but its place: nobody polls for it.
 */
export class Roll<C extends RollingConnection> implements Renewal<C> {
  readonly #pool: RollingPool<C>;
  readonly #register: ConnectionRegister<C>;
  readonly #choice: CredentialChoice;
  readonly #options: RollOptions<C>;
  /** One for each replacement that was handed in before any old connection could go; called when one has gone. */
  readonly #owed: (() => void)[] = [];
  /** What to call when the socket of a connection that was told to leave has closed. */
  readonly #leaving = new Map<C, () => void>();
  readonly #naps = new Set<() => void>();
  #workers = 0;
  #underWay = 0;
  #stopped = false;

  constructor(
    pool: RollingPool<C>,
    register: ConnectionRegister<C>,
    choice: CredentialChoice,
    options: RollOptions<C>,
  ) {
    this.#pool = pool;
    this.#register = register;
    this.#choice = choice;
    this.#options = options;
  }

  wake(delayMs = 0): void {
    if (delayMs === 0) {
      this.#endNaps();
      this.#settleWithIdle();
    }
    while (!this.#stopped && this.#workers < (this.#options.concurrency ?? 1) && this.#hasWork()) {
      this.#workers += 1;
      void this.#work(delayMs);
    }
  }

  claims(client: C): boolean {
    if (!this.#isOld(client)) return false;
    const settle = this.#owed.shift();
    if (settle === undefined) return false;
    this.#leaving.set(client, settle);
    return true;
  }

  closed(client: C, { versionId, isStandIn, wasOpen }: ClosedConnection): void {
    const settle = this.#leaving.get(client);
    this.#leaving.delete(client);
    if (settle !== undefined) settle();
    // An old connection that left for a reason of its own has made room as well.
    else if (wasOpen && (isStandIn || versionId !== this.#choice.currentVersionId)) this.#owed.shift()?.();
    this.#settleWithNothingOld();
  }

  async dropIdle(isStale: (client: C) => boolean): Promise<void> {
    for (const client of this.#pool.idle()) {
      if (isStale(client)) this.#pool.evict(client);
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#endNaps();
    for (const settle of this.#owed.splice(0)) settle();
  }

  async #work(delayMs: number): Promise<void> {
    let retryMs = Math.max(FIRST_RETRY_MS, delayMs);
    let aim = this.#choice.currentVersionId;
    await this.#nap(delayMs);
    while (!this.#stopped && this.#hasWork()) {
      if (aim !== this.#choice.currentVersionId) {
        aim = this.#choice.currentVersionId;
        retryMs = FIRST_RETRY_MS;
      }
      this.#underWay += 1;
      if (await this.#handInOneMore()) {
        retryMs = FIRST_RETRY_MS;
        await this.#oneOldGone();
        await this.#nap(this.#options.paceMs ?? DEFAULT_PACE_MS);
      } else {
        await this.#nap(retryMs);
        retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
      }
      this.#underWay -= 1;
    }
    this.#workers -= 1;
  }

  #hasWork(): boolean {
    return this.#register.countOld(this.#choice.currentVersionId) > this.#underWay;
  }

  #isOld(client: C): boolean {
    return this.#register.isOld(client, this.#choice.currentVersionId);
  }

  #handInOneMore(): Promise<boolean> {
    // A candidate would be as old as what it replaces, so the extra connection is for the current version alone.
    this.#choice.forgive();
    return new Promise((resolve) => {
      this.#pool.open((error, client, release) => {
        if (error || client === undefined) resolve(false);
        else void this.#handIn(client, release).then(resolve);
      });
    });
  }

  async #handIn(client: C, release: ReleaseConnection): Promise<boolean> {
    if (!this.#isWanted(client)) return this.#discard(client, release);
    const ignore = (): void => undefined;
    // While nobody else listens, the loss of the connection would be an unhandled 'error' event.
    client.on('error', ignore);
    await this.#options.warmUp(client).catch(ignore);
    client.off('error', ignore);
    if (!this.#isWanted(client)) return this.#discard(client, release);
    release();
    return this.#register.isUsable(client);
  }

  #isWanted(client: C): boolean {
    return !this.#stopped && !this.#isOld(client);
  }

  #discard(client: C, release: ReleaseConnection): Promise<false> {
    return new Promise((resolve) => {
      this.#leaving.set(client, () => resolve(false));
      release(true);
    });
  }

  #oneOldGone(): Promise<void> {
    return new Promise((resolve) => {
      this.#owed.push(resolve);
      this.#settleWithIdle();
    });
  }

  #settleWithIdle(): void {
    // The oldest first: the credential it was opened with is the one that has been waiting longest to be retired.
    for (const client of this.#register.byAge(this.#pool.idle())) {
      if (this.claims(client)) this.#pool.evict(client);
    }
    this.#settleWithNothingOld();
  }

  /** Stops waiting for more old connections than there are, as after a rollback to the version they were opened with. */
  #settleWithNothingOld(): void {
    while (this.#owed.length > this.#register.countOld(this.#choice.currentVersionId)) this.#owed.shift()?.();
  }

  #nap(durationMs: number): Promise<void> {
    if (durationMs === 0 || this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const wakeUp = (): void => {
        clearTimeout(timer);
        this.#naps.delete(wakeUp);
        resolve();
      };
      const timer = setTimeout(wakeUp, durationMs);
      timer.unref();
      this.#naps.add(wakeUp);
    });
  }

  #endNaps(): void {
    for (const wakeUp of this.#naps) wakeUp();
  }
}
