import { systemClock, type Cancel } from '../foundation/clock.js';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { BackOff } from './back-off.js';
import type { HintListeners } from './hint-listeners.js';
import type { Lookout } from './lookout.js';
import type { StoreHint } from './store-driver.js';

export interface StoreChanges {
  /** The store's revision now. */
  readonly revision: number;
  /** What has been written since; undefined when the store cannot tell all of it. */
  readonly keys?: readonly string[];
}

/**
 * Asks for the store's revision again and again, with one question for all watchers, and tells them when it has moved. Pauses are drawn from
 * three quarters of the interval to the whole, so that the processes of a fleet do not ask in step; after an error they grow.
 */
export class RevisionPoll implements Lookout {
  readonly #backOff: BackOff;
  #cancel: Cancel | undefined;
  #looking: Promise<void> | undefined;
  #isClosed = false;
  /** A call has failed since the last look: watchers are to look at everything once there is an answer again. */
  #isInDoubt = false;
  /** The pause that a failure asks for. */
  #retryAfterMs: number | undefined;

  constructor(
    private readonly listeners: HintListeners,
    private readonly changesSince: (revision: number) => Promise<StoreChanges>,
    /** Watchers have been told of every commit up to this revision. */
    private toldRevision: number,
    private readonly intervalMs: number,
    private readonly randomness: Randomness = cryptoRandomness,
  ) {
    this.#backOff = new BackOff(intervalMs, randomness);
  }

  adjust(): void {
    if (this.#isClosed || this.#cancel !== undefined || this.#looking !== undefined || this.listeners.size === 0)
      return;
    const pause = this.intervalMs - this.randomness.below(Math.ceil(this.intervalMs / 4));
    this.#lookAfter(this.#retryAfterMs ?? pause);
  }

  told(before: number, revision: number): void {
    // When another process committed in between, the next look must still find a difference.
    if (before === this.toldRevision) this.toldRevision = revision;
  }

  doubt(): void {
    this.#isInDoubt = true;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel?.();
    await this.#looking;
  }

  #lookAfter(delayMs: number): void {
    this.#cancel = systemClock.after(delayMs, () => {
      this.#cancel = undefined;
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined;
        this.adjust();
      });
    });
  }

  async #look(): Promise<void> {
    const before = this.toldRevision;
    const wasInDoubt = this.#isInDoubt;
    try {
      const { revision, keys } = await this.changesSince(before);
      this.#backOff.reset();
      this.#retryAfterMs = undefined;
      if (wasInDoubt) {
        this.#isInDoubt = false;
        this.#tell(revision, {});
      } else if (this.toldRevision === before && revision !== before) {
        this.#tell(revision, keys === undefined ? {} : { keys });
      }
    } catch {
      // Whoever uses the store meets the outage; the watch goes on and sees what has changed when it is over.
      this.#isInDoubt = true;
      this.#retryAfterMs = this.#backOff.next();
    }
  }

  #tell(revision: number, hint: StoreHint): void {
    this.toldRevision = revision;
    if (!this.#isClosed) this.listeners.announce(hint);
  }
}
