import type { SecretLink } from '../secret-link.js';

export interface PauseGateOptions<W> {
  readonly link: Pick<SecretLink, 'afterPause'>;
  /** Takes out what may have died during the pause, before anybody is let through. */
  readonly clear: () => Promise<void>;
  /** Serves those who were held back, in the order in which they came to the gate. */
  readonly resume: (waiters: ReadonlySet<W>) => void;
}

/**
 * Holds callers back after this process was paused for longer than its lease, until the secret was read anew and the connections that
 * others may have ended meanwhile are gone. In ordinary times it costs one call a caller.
 */
export class PauseGate<W> {
  readonly #options: PauseGateOptions<W>;
  readonly #heldBack = new Set<W>();
  #shut = false;

  constructor(options: PauseGateOptions<W>) {
    this.#options = options;
  }

  /** True when the caller must wait: `resume` is called with it later. */
  holdsBack(waiter: W): boolean {
    if (!this.#shut) {
      if (this.#options.link.afterPause() === undefined) return false;
      this.#shut = true;
      void this.#openAgain();
    }
    this.#heldBack.add(waiter);
    return true;
  }

  async #openAgain(): Promise<void> {
    for (let pause = this.#options.link.afterPause(); pause !== undefined; pause = this.#options.link.afterPause()) {
      await pause.catch(() => undefined);
      // What the servers sent while the process stood still lies in the sockets: one round of the event loop has it read, so that
      // connections which were ended are known to be.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await this.#options.clear();
    this.#shut = false;
    const waiters = new Set(this.#heldBack);
    this.#heldBack.clear();
    this.#options.resume(waiters);
  }
}
