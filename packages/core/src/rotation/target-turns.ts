/**
 * Lets the steps that act on the target of one secret happen one at a time: a credential that is being changed must not be used meanwhile
 * to retire an older one.
 */
export class TargetTurns {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs `work` when everything that came before it for this secret has ended, well or not. */
  async take<R>(secretName: string, work: () => Promise<R>): Promise<R> {
    const before = this.#last.get(secretName) ?? Promise.resolve();
    const turn = before.then(work);
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
}
