/** Those who asked a pool for a connection and were told nothing yet, in the order in which they came. */
export class WaitingCallers<Caller> implements Iterable<Caller> {
  readonly #callers = new Set<Caller>();
  #allServed: (() => void) | undefined;

  add(caller: Caller): void {
    this.#callers.add(caller);
  }

  [Symbol.iterator](): Iterator<Caller> {
    return this.#callers.values();
  }

  has(caller: Caller): boolean {
    return this.#callers.has(caller);
  }

  /** To be called before a caller is told anything. False when it was told something already. */
  settle(caller: Caller): boolean {
    const isWaiting = this.#callers.delete(caller);
    if (this.#callers.size === 0) this.#allServed?.();
    return isWaiting;
  }

  /** Resolves when nobody waits any more, or after `timeoutMs` with those who still do. */
  async served(timeoutMs: number): Promise<readonly Caller[]> {
    if (this.#callers.size === 0) return [];
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#allServed = resolve;
      timer = setTimeout(resolve, timeoutMs);
    });
    clearTimeout(timer);
    return [...this.#callers];
  }
}
