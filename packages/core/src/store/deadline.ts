import { systemClock } from '../foundation/clock.js';

/** The moment by which a call must have its answer, on a clock that nobody sets. */
export class Deadline {
  readonly #at: number;

  constructor(withinMs: number) {
    this.#at = performance.now() + withinMs;
  }

  /** At least 1, since clients take 0 for "no limit". */
  get leftMs(): number {
    return Math.max(1, Math.ceil(this.#at - performance.now()));
  }

  get isOver(): boolean {
    return performance.now() >= this.#at;
  }
}

/**
 * The outcome of `work`, or an error after `withinMs` without one. What it gives later goes to `late`, so that nothing it has taken is lost.
 */
export function answerWithin<R>(
  withinMs: number,
  what: string,
  work: Promise<R>,
  late: (result: R) => void = () => undefined,
): Promise<R> {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const cancel = systemClock.after(withinMs, () => {
      isLate = true;
      reject(new Error(`${what} timed out`));
    });
    work.then(
      (result) => {
        cancel();
        if (isLate) late(result);
        else resolve(result);
      },
      (error: unknown) => {
        cancel();
        reject(error);
      },
    );
  });
}
