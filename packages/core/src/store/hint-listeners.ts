import type { StoreHint } from './store-driver.js';

/** The watchers of one store driver. */
export class HintListeners {
  readonly #listeners = new Set<{ readonly hear: (hint: StoreHint) => void }>();

  get size(): number {
    return this.#listeners.size;
  }

  add(hear: (hint: StoreHint) => void): () => void {
    // Wrapped, so that one function watching twice is two watches, each with an end of its own.
    const listener = { hear };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Tells everyone who still listens when the current task is over. What a listener throws is its own affair and stops nobody else. */
  announce(hint: StoreHint): void {
    queueMicrotask(() => {
      for (const listener of this.#listeners) {
        try {
          listener.hear(hint);
        } catch {
          // A hint may be lost: whoever fails to take it finds the change by its revision.
        }
      }
    });
  }

  clear(): void {
    this.#listeners.clear();
  }
}
