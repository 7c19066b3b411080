import { type Clock, hold } from '../foundation/clock.js';
import { isSecretsError, KeyUnavailableError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import { type KeyProviderStatus, KeyProviderError } from './key-provider.js';

/** How a service with master keys is called. */
export interface RemoteCallOptions {
  /** How long a call may take in all, waiting for its turn and further attempts included, in milliseconds; 5,000 by default. */
  readonly deadlineMs?: number;
  /** How long one attempt may take, in milliseconds; 2,000 by default. */
  readonly attemptMs?: number;
  /** How many calls may be under way at once; 8 by default. The others wait for their turn. */
  readonly concurrency?: number;
}

interface Waiting {
  readonly begin: () => void;
}

const DEFAULTS = { deadlineMs: 5_000, attemptMs: 2_000, concurrency: 8 };
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** After so many failed attempts in a row the service counts as away: one attempt at a time finds out whether it is back. */
const FAILURES_UNTIL_AWAY = 4;
const LONGEST_PROBE_PAUSE_MS = 10_000;

/**
 * Calls to one service, so that neither its outage nor its return becomes a stampede: so many at once and no more, a deadline for each, pauses
 * drawn at random from a limit that doubles ("full jitter"), and, while the service is away, one attempt at a time for all callers together.
 */
export class RemoteCalls {
  readonly #limits: Required<RemoteCallOptions>;
  readonly #queue = new Set<Waiting>();
  /** What waits for time to pass, to be told of the end. */
  readonly #onClose = new Set<() => void>();
  #closed = false;
  #running = 0;
  #failures = 0;
  #probing = false;
  #nextProbeAt = 0;
  #away: { readonly since: number; reason: string } | undefined;

  constructor(
    private readonly name: string,
    options: RemoteCallOptions,
    private readonly clock: Clock,
    private readonly randomness: Randomness,
  ) {
    this.#limits = limitsOf(name, options);
  }

  get isAway(): boolean {
    return this.#away !== undefined;
  }

  status(): KeyProviderStatus {
    return this.#away === undefined ? { state: 'available' } : { state: 'away', ...this.#away };
  }

  /**
   * The answer of `attempt`, which is asked again after a `KeyUnavailableError`; anything else that it throws goes to the caller. Its signal is
   * aborted when nobody waits for it any more.
   * @throws KeyUnavailableError when there was no answer in time
   * @throws KeyProviderError `KEY_PROVIDER_CLOSED`
   */
  async run<T>(attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    // Somebody waits for this answer, for as long as the deadline at most.
    return hold(this.clock, this.#run(attempt));
  }

  async #run<T>(attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const startedAt = this.clock.monotonic();
    const left = (): number => this.#limits.deadlineMs - (this.clock.monotonic() - startedAt);
    for (let failures = 0; ; failures += 1) {
      if (!(await this.#turn(left()))) throw this.#closed ? this.#closedError() : this.#noTurn();
      let outcome: { readonly answer: T } | { readonly failure: unknown };
      try {
        outcome = await this.#once(attempt, Math.min(left(), this.#limits.attemptMs));
      } finally {
        this.#release();
      }
      if ('answer' in outcome) return outcome.answer;
      if (this.#away !== undefined) throw outcome.failure;
      const pauseMs = this.randomness.below(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures)) + 1;
      if (pauseMs >= left()) throw outcome.failure;
      await this.#pause(pauseMs);
      if (this.#closed) throw this.#closedError();
      if (this.#away !== undefined) throw outcome.failure;
    }
  }

  /** Ends what is under way and what waits; nothing begins any more. */
  close(): void {
    this.#closed = true;
    for (const { begin } of this.#queue) begin();
    for (const end of this.#onClose) end();
  }

  /** One attempt: its answer, or the failure after which another one makes sense. */
  async #once<T>(
    attempt: (signal: AbortSignal) => Promise<T>,
    withinMs: number,
  ): Promise<{ readonly answer: T } | { readonly failure: unknown }> {
    const probes = this.#admit();
    try {
      const answer = await this.#timed(attempt, withinMs);
      this.#failures = 0;
      this.#away = undefined;
      return { answer };
    } catch (error) {
      // An answer of any other kind is one: the service is there.
      if (isSecretsError(error, 'KEY_UNAVAILABLE')) {
        this.#fail(error.message);
        return { failure: error };
      }
      if (!this.#closed) {
        this.#failures = 0;
        this.#away = undefined;
      }
      throw error;
    } finally {
      if (probes) this.#probing = false;
    }
  }

  /** Whether this attempt is the one that finds out if the service is back. Throws when it is away and it is not the time to ask. */
  #admit(): boolean {
    if (this.#away === undefined) return false;
    if (this.#probing || this.clock.monotonic() < this.#nextProbeAt) {
      throw new KeyUnavailableError(this.name, `is away and was not asked again: ${this.#away.reason}`);
    }
    this.#probing = true;
    return true;
  }

  #fail(reason: string): void {
    this.#failures += 1;
    if (this.#failures < FAILURES_UNTIL_AWAY) return;
    this.#away ??= { since: this.clock.now(), reason };
    this.#away.reason = reason;
    const longest = Math.min(LONGEST_PROBE_PAUSE_MS, 2 ** (this.#failures - FAILURES_UNTIL_AWAY) * 500);
    this.#nextProbeAt = this.clock.monotonic() + this.randomness.below(longest) + 1;
  }

  #timed<T>(attempt: (signal: AbortSignal) => Promise<T>, withinMs: number): Promise<T> {
    const given = new AbortController();
    return new Promise<T>((resolve, reject) => {
      const giveUp = (error: Error): void => {
        reject(error);
        given.abort();
      };
      const onClose = (): void => giveUp(this.#closedError());
      const cancel = this.clock.after(withinMs, () =>
        giveUp(new KeyUnavailableError(this.name, `did not answer within ${Math.round(withinMs)} ms.`)),
      );
      this.#onClose.add(onClose);
      const done = (): void => {
        cancel();
        this.#onClose.delete(onClose);
      };
      // By way of an async function, since one that is not might throw right here.
      (async () => attempt(given.signal))().then(
        (answer) => {
          done();
          resolve(answer);
        },
        (error: unknown) => {
          done();
          reject(error);
        },
      );
    });
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        this.#onClose.delete(done);
        resolve();
      };
      const cancel = this.clock.after(delayMs, done);
      this.#onClose.add(done);
    });
  }

  /** Waits for a turn, at most so long; true when it has come, and must then be released. */
  async #turn(withinMs: number): Promise<boolean> {
    if (this.#closed) return false;
    if (this.#running < this.#limits.concurrency) {
      this.#running += 1;
      return true;
    }
    if (withinMs <= 0) return false;
    return new Promise((resolve) => {
      const settle = (hasTurn: boolean): void => {
        cancel();
        this.#queue.delete(waiting);
        resolve(hasTurn);
      };
      const waiting: Waiting = { begin: () => settle(!this.#closed) };
      const cancel = this.clock.after(withinMs, () => settle(false));
      this.#queue.add(waiting);
    });
  }

  #release(): void {
    const [next] = this.#queue;
    if (next === undefined || this.#closed) this.#running -= 1;
    // The turn goes over to the next one, who does not count again.
    else next.begin();
  }

  #noTurn(): KeyUnavailableError {
    const { concurrency, deadlineMs } = this.#limits;
    return new KeyUnavailableError(
      this.name,
      `is busy: ${concurrency} calls were under way for all of ${deadlineMs} ms. Allow more at once, or ask it less.`,
    );
  }

  #closedError(): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_CLOSED', this.name, 'is closed: the application is shutting down.');
  }
}

function limitsOf(name: string, options: RemoteCallOptions): Required<RemoteCallOptions> {
  const {
    deadlineMs = DEFAULTS.deadlineMs,
    attemptMs = DEFAULTS.attemptMs,
    concurrency = DEFAULTS.concurrency,
  } = options;
  for (const [option, value] of Object.entries({ deadlineMs, attemptMs, concurrency })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      name,
      `was given the ${option} ${String(value)}: give a whole number from 1.`,
    );
  }
  return { deadlineMs, attemptMs, concurrency };
}
