import type { StoreHint } from './store-driver.js';

interface Listener {
  readonly hear: (hint: StoreHint) => void;
  /** Undefined: everything is of interest. */
  readonly prefixes: readonly string[] | undefined;
}

/** The watchers of one store driver. */
export class HintListeners {
  readonly #listeners = new Set<Listener>();

  get size(): number {
    return this.#listeners.size;
  }

  /** What the listeners ask for together; undefined when one of them asks for everything. */
  get prefixes(): ReadonlySet<string> | undefined {
    const all = new Set<string>();
    for (const { prefixes } of this.#listeners) {
      if (prefixes === undefined) return undefined;
      for (const prefix of prefixes) all.add(prefix);
    }
    return all;
  }

  /** With `prefixes` the listener hears of keys under one of them only, and of hints without keys. */
  add(hear: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    // Wrapped, so that one function watching twice is two watches, each with an end of its own.
    const listener = { hear, prefixes: prefixes && [...prefixes] };
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Tells everyone who still listens when the current task is over. What a listener throws is its own affair and stops nobody else. */
  announce(hint: StoreHint): void {
    queueMicrotask(() => {
      for (const { hear, prefixes } of this.#listeners) {
        const part = narrowed(hint, prefixes);
        if (part === undefined) continue;
        try {
          hear(part);
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

function narrowed(hint: StoreHint, prefixes: readonly string[] | undefined): StoreHint | undefined {
  if (prefixes === undefined || hint.keys === undefined) return hint;
  const keys = hint.keys.filter((key) => prefixes.some((prefix) => key.startsWith(prefix)));
  return keys.length === 0 ? undefined : { keys };
}
