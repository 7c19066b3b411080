import { MOVE_PREFIX, PHASE_KEY } from './move-records.js';
import type { StoreDriver, StoreHint } from './store-driver.js';

interface Watch {
  readonly hear: (hint: StoreHint) => void;
  readonly prefixes: readonly string[] | undefined;
  end: () => void;
}

/** Who watches a store that is being moved: each watch goes over to the new store with it. */
export class MoveWatches {
  readonly #watches = new Set<Watch>();
  #endPhase = (): void => undefined;

  constructor(private driver: StoreDriver) {}

  add(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    const hear = (hint: StoreHint): void => {
      if (hint.keys === undefined) return onHint(hint);
      const keys = hint.keys.filter((key) => !key.startsWith(MOVE_PREFIX));
      if (keys.length > 0) onHint({ keys });
    };
    const watch: Watch = { hear, prefixes, end: this.driver.watch(hear, prefixes) };
    this.#watches.add(watch);
    return () => {
      this.#watches.delete(watch);
      watch.end();
    };
  }

  /** Calls `onHint` when the phase may have changed. */
  watchPhase(onHint: () => void): void {
    this.#endPhase = this.driver.watch(
      ({ keys }) => {
        if (keys === undefined || keys.includes(PHASE_KEY)) onHint();
      },
      [PHASE_KEY],
    );
  }

  /** From now on hints come from there. What was committed on either side meanwhile is found by looking at everything once. */
  switchTo(driver: StoreDriver): void {
    this.#endPhase();
    this.driver = driver;
    for (const watch of this.#watches) {
      watch.end();
      watch.end = driver.watch(watch.hear, watch.prefixes);
    }
    queueMicrotask(() => {
      for (const { hear } of this.#watches) {
        try {
          hear({});
        } catch {
          // As with any hint, a listener that throws stops nobody else.
        }
      }
    });
  }

  close(): void {
    this.#endPhase();
    for (const { end } of this.#watches) end();
    this.#watches.clear();
  }
}
