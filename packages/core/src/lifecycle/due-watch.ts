import type { Cancel, Clock } from '../foundation/clock.js';
import type { Randomness } from '../foundation/randomness.js';
import { DUE_PREFIX, parseDueKey } from '../store/due-entries.js';
import type { StoreDriver } from '../store/store-driver.js';

/** Clocks may be set and machines may sleep, so what is far off is looked at again at least this often. */
const LONGEST_WAIT_MS = 3_600_000;
const RETRY_AFTER_MS = 5_000;
/** Instances do not all come at once for what one of them will do. */
const LONGEST_JITTER_MS = 1_000;
const PAGE = 50;

export interface DueWatchParts {
  readonly store: StoreDriver;
  readonly clock: Clock;
  readonly randomness: Randomness;
  /** Does what is due of something; what it leaves undone is still due, and comes up again. */
  readonly handle: (what: string) => Promise<void>;
}

/**
 * Comes back to everything in the store that will be due, when it is. One timer and one look at the earliest entries serve all of it; every instance has the
 * same, and compare-and-set sees to it that one acts.
 */
export class DueWatch {
  #timer: { readonly at: number; readonly cancel: Cancel } | undefined;
  #looking: Promise<void> | undefined;
  #again = false;
  #unwatch: Cancel | undefined;
  #isStopped = false;

  constructor(private readonly parts: DueWatchParts) {}

  async start(): Promise<void> {
    this.#unwatch = this.parts.store.watch(
      ({ keys }) => {
        if (keys === undefined) this.#arm(this.parts.clock.now());
        for (const key of keys ?? []) {
          const entry = parseDueKey(key);
          if (entry !== undefined) this.#arm(entry.at);
        }
      },
      [DUE_PREFIX],
    );
    await this.#look();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unwatch?.();
    this.#timer?.cancel();
    await this.#looking;
  }

  /** Sets the timer, unless it comes earlier anyway. */
  #arm(at: number): void {
    if (this.#isStopped || (this.#timer !== undefined && this.#timer.at <= at)) return;
    this.#timer?.cancel();
    const { clock, randomness } = this.parts;
    const wait = Math.min(LONGEST_WAIT_MS, Math.max(0, at - clock.now()));
    const cancel = clock.after(wait + randomness.below(LONGEST_JITTER_MS), () => {
      this.#timer = undefined;
      void this.#look();
    });
    this.#timer = { at, cancel };
  }

  #look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#again = true;
      return this.#looking;
    }
    this.#looking = this.#lookOnce().finally(() => {
      this.#looking = undefined;
      if (!this.#again) return;
      this.#again = false;
      void this.#look();
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const { store, clock, handle } = this.parts;
    let next = clock.now() + LONGEST_WAIT_MS;
    try {
      for (let after: string | undefined; !this.#isStopped;) {
        const page = await store.list({ prefix: DUE_PREFIX, limit: PAGE, ...(after === undefined ? {} : { after }) });
        const due = page.flatMap(({ key }) => parseDueKey(key) ?? []);
        for (const { at, what } of due) {
          if (at > clock.now()) {
            next = Math.min(next, at);
            break;
          }
          await handle(what);
          // Whatever is still there is held up by something.
          next = Math.min(next, clock.now() + RETRY_AFTER_MS);
        }
        after = page.at(-1)?.key;
        if (page.length < PAGE || (due.at(-1)?.at ?? 0) > clock.now()) break;
      }
    } catch {
      next = clock.now() + RETRY_AFTER_MS;
    }
    this.#arm(next);
  }
}
