/** Ends something that was started; calling it twice is harmless. */
export type Cancel = () => void;

/**
 * Where every layer takes its time from, so that the engine runs the same under a simulated clock.
 * Times are milliseconds since the Unix epoch.
 */
export interface Clock {
  now(): number;
  /**
   * Milliseconds that only grow, at a steady pace, whatever is done to the wall clock; counted from no particular moment. For everything that
   * must last or expire, since wall clocks are set and differ from machine to machine.
   */
  monotonic(): number;
  /** Runs `task` once, `delayMs` from now (any length; below 0 counts as 0). Never keeps the process alive. */
  after(delayMs: number, task: () => void): Cancel;
  /** Keeps the process alive until it is called off. A simulated clock, which has no process, needs none. */
  keepAlive?(): Cancel;
}

// Node runs a longer setTimeout at once, so longer waits are cut into pieces of this size.
const LONGEST_TIMER_MS = 2_147_483_647;

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, task) {
    let left = Math.max(0, delayMs);
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const piece = Math.min(left, LONGEST_TIMER_MS);
      left -= piece;
      timer = setTimeout(() => (left > 0 ? arm() : task()), piece);
      timer.unref();
    };
    arm();
    return () => clearTimeout(timer);
  },
  keepAlive() {
    const timer = setInterval(() => undefined, LONGEST_TIMER_MS);
    return () => clearInterval(timer);
  },
};

/** Resolves after `delayMs`, or at once when `signal` is aborted (check `signal.aborted` to tell which). */
export function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = clock.after(delayMs, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** Keeps the process alive until the work is over. For a wait that has an end, in the midst of something whose caller waits: a timer of the clock lets the process end. */
export async function hold<T>(clock: Clock, work: Promise<T>): Promise<T> {
  const release = clock.keepAlive?.();
  try {
    return await work;
  } finally {
    release?.();
  }
}
