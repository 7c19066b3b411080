import type { Clock } from '../foundation/clock.js';
import { RotationInterruptedError } from '../foundation/errors.js';

/**
 * How long a step may go on after it was told to stop, in milliseconds: as long as a statement that it had sent may still take effect (see
 * docs/guarantees.md).
 */
const STOP_WITHIN_MS = 10_000;

/**
 * Lets the steps that act on the target of one secret happen one at a time: a credential that is being changed must not be used meanwhile
 * to retire an older one.
 */
export class TargetTurns {
  readonly #last = new Map<string, Promise<void>>();

  constructor(private readonly clock: Clock) {}

  /**
   * Runs `work` when everything that came before it for this secret has ended, well or not. Work that does not end within `STOP_WITHIN_MS` of an
   * abort of `signal` counts as ended: a rotator that hangs must not keep this process from ever rotating the secret again.
   * @throws RotationInterruptedError when the work did not end in time; otherwise what it threw
   */
  async take<R>(secretName: string, signal: AbortSignal, work: () => Promise<R>): Promise<R> {
    const before = this.#last.get(secretName) ?? Promise.resolve();
    const turn = before.then(() => this.#within(secretName, signal, work()));
    const ended = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(secretName, ended);
    try {
      return await turn;
    } finally {
      if (this.#last.get(secretName) === ended) this.#last.delete(secretName);
    }
  }

  #within<R>(secretName: string, signal: AbortSignal, work: Promise<R>): Promise<R> {
    return new Promise((resolve, reject) => {
      let cancel = (): void => undefined;
      const toldToStop = (): void => {
        cancel = this.clock.after(STOP_WITHIN_MS, () => reject(new RotationInterruptedError(secretName)));
      };
      if (signal.aborted) toldToStop();
      else signal.addEventListener('abort', toldToStop, { once: true });
      const end = (): void => {
        cancel();
        signal.removeEventListener('abort', toldToStop);
      };
      work.finally(end).then(resolve, reject);
    });
  }
}
