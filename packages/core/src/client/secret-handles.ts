import { type Cancel, pause } from '../foundation/clock.js';
import { isSecretsError, SecretUnavailableError, SecretsError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import { SecretHandle, type SecretHandleParts } from './secret-handle.js';

export interface SecretHandlesOptions extends SecretHandleParts {
  readonly randomness: Randomness;
  /** How long the first value may take, in milliseconds. */
  readonly bootTimeoutMs: number;
  /** A look at the source this often even without a hint, in milliseconds; 0 for never. */
  readonly refreshIntervalMs: number;
}

/** How fresh one secret of this application is. */
export interface SecretHealth {
  readonly versionId: string;
  /** `degraded`: the last look at the source failed and the last good value serves on. `expired`: it is past its TTL. */
  readonly status: 'up' | 'degraded' | 'expired';
  /** The code of the error, when degraded. */
  readonly reason: string | undefined;
  /** True after the newest version failed and the one before was put back, until there is a new one. */
  readonly rolledBack: boolean;
}

interface Entry {
  readonly handle: SecretHandle;
  failure: string | undefined;
  retry: Cancel | undefined;
  attempts: number;
}

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;

/** All live handles of one application, at most one per secret, kept up with their source. */
export class SecretHandles {
  readonly #entries = new Map<string, Entry>();
  readonly #opening = new Map<string, Promise<SecretHandle>>();
  readonly #unwatch: () => void;
  #poll: Cancel | undefined;
  #closed = false;

  constructor(private readonly options: SecretHandlesOptions) {
    // A hint says "look"; what is found there counts. One that gets lost is made up for by the regular look.
    this.#unwatch = options.source.watch((name) => {
      if (name !== undefined) this.#look(name);
      else for (const known of this.#entries.keys()) this.#look(known);
    });
    this.#schedulePoll();
  }

  /**
   * The handle of a secret; waits for its first value.
   * @throws SecretUnavailableError when the source does not deliver in time
   * @throws SecretNotFoundError, InvalidSecretValueError, CorruptRecordError
   */
  open(name: string): Promise<SecretHandle> {
    let opening = this.#opening.get(name);
    if (opening === undefined) {
      opening = this.#open(name);
      this.#opening.set(name, opening);
      opening.catch(() => this.#opening.delete(name));
    }
    return opening;
  }

  health(): ReadonlyMap<string, SecretHealth> {
    const now = this.options.clock.now();
    return new Map(
      [...this.#entries].map(([name, { handle, failure }]) => {
        const expired = handle.expiresAt !== undefined && handle.expiresAt <= now;
        const status = expired ? 'expired' : failure === undefined ? 'up' : 'degraded';
        const { versionId, isRolledBack: rolledBack } = handle;
        return [name, { versionId, status, reason: failure, rolledBack }] as const;
      }),
    );
  }

  /** Ends watching and completes every handle. */
  close(): void {
    this.#closed = true;
    this.#unwatch();
    this.#poll?.();
    for (const { handle, retry } of this.#entries.values()) {
      retry?.();
      handle.close();
    }
  }

  async #open(name: string): Promise<SecretHandle> {
    const { clock, bootTimeoutMs, source } = this.options;
    const inTime = new AbortController();
    const late = pause(clock, bootTimeoutMs, inTime.signal).then(() => {
      throw new SecretUnavailableError(
        name,
        `The ${source.name} did not deliver ${name} within ${bootTimeoutMs} ms. Is it reachable?`,
      );
    });
    try {
      const handle = await Promise.race([SecretHandle.open(name, this.options), late]);
      this.#entries.set(name, { handle, failure: undefined, retry: undefined, attempts: 0 });
      // What changed between the fetch and now gave its hint to nobody.
      this.#look(name);
      return handle;
    } catch (error) {
      if (isSecretsError(error)) throw error;
      throw new SecretUnavailableError(name, `The ${source.name} did not deliver ${name}. See the cause.`, error);
    } finally {
      late.catch(() => undefined);
      inTime.abort();
    }
  }

  #look(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || this.#closed) return;
    entry.handle.refresh().then(
      () => this.#recovered(entry),
      (error: unknown) => this.#failed(name, entry, error),
    );
  }

  #recovered(entry: Entry): void {
    entry.retry?.();
    entry.retry = undefined;
    entry.failure = undefined;
    entry.attempts = 0;
  }

  #failed(name: string, entry: Entry, error: unknown): void {
    const cause = error instanceof SecretsError && isSecretsError(error.cause) ? error.cause : error;
    entry.failure = isSecretsError(cause) ? cause.code : 'SECRET_UNAVAILABLE';
    if (entry.retry !== undefined || this.#closed) return;
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** entry.attempts);
    entry.attempts = Math.min(entry.attempts + 1, 20);
    // Full jitter, so that a fleet that lost its store together does not come back together.
    entry.retry = this.options.clock.after(1 + this.options.randomness.below(longest), () => {
      entry.retry = undefined;
      this.#look(name);
    });
  }

  #schedulePoll(): void {
    const { clock, randomness, refreshIntervalMs } = this.options;
    if (refreshIntervalMs === 0) return;
    this.#poll = clock.after(refreshIntervalMs * 0.75 + randomness.below(Math.ceil(refreshIntervalMs / 2)), () => {
      for (const name of this.#entries.keys()) this.#look(name);
      this.#schedulePoll();
    });
  }
}
