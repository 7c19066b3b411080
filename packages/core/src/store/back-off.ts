import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';

/** The longest pause between two attempts to reach a store, in milliseconds. */
const LONGEST_PAUSE_MS = 5000;

/**
 * Exponential pauses with full jitter: each is drawn from 0 to a limit that doubles. A fleet that lost its store in one moment so comes
 * back spread over about as long as it was away, 5 seconds at most (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export class BackOff {
  #failures = 0;

  constructor(
    private readonly baseMs: number,
    private readonly randomness: Randomness = cryptoRandomness,
  ) {}

  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure; the pause to make before the next attempt, in milliseconds. */
  next(): number {
    const limit = Math.min(Math.max(LONGEST_PAUSE_MS, this.baseMs), this.baseMs * 2 ** Math.min(this.#failures, 20));
    this.#failures += 1;
    return this.randomness.below(Math.ceil(limit) + 1);
  }

  reset(): void {
    this.#failures = 0;
  }
}
