const EXCESS_CHECK_MS = 1000;

export interface IdleLimitOptions {
  /** The most connections that may stay idle. */
  readonly maxIdle: number;
  /** How long one may stay idle, in milliseconds. */
  readonly idleTimeoutMs: number;
}

/** Lets connections go that nobody needs, as mysql2 does when `maxIdle` is below `connectionLimit`. */
export class IdleLimit<C> {
  readonly #options: IdleLimitOptions;
  readonly #idle: readonly C[];
  readonly #evict: (connection: C) => void;
  readonly #timers = new Map<C, NodeJS.Timeout>();
  #excessCheck: NodeJS.Timeout | undefined;

  /** @param idle the pool's idle connections, as they are at any time, the one idle for the longest first */
  constructor(options: IdleLimitOptions, idle: readonly C[], evict: (connection: C) => void) {
    this.#options = options;
    this.#idle = idle;
    this.#evict = evict;
  }

  becameIdle(connection: C): void {
    this.#timers.set(connection, setTimeout(() => this.#evict(connection), this.#options.idleTimeoutMs).unref());
    // After a while: under load, most are needed again at once.
    if (this.#excessCheck !== undefined) return;
    this.#excessCheck = setTimeout(() => this.#evictExcess(), EXCESS_CHECK_MS).unref();
  }

  noLongerIdle(connection: C): void {
    clearTimeout(this.#timers.get(connection));
    this.#timers.delete(connection);
  }

  #evictExcess(): void {
    this.#excessCheck = undefined;
    for (const connection of this.#idle.slice(0, Math.max(0, this.#idle.length - this.#options.maxIdle))) {
      this.#evict(connection);
    }
  }
}
