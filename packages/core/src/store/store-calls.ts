import { isSecretsError, StoreClosedError, StoreUnavailableError } from '../foundation/errors.js';
import { redactError } from '../foundation/redaction.js';

/** What a server or its client has thrown, bare of everything that may hold stored values. */
export type BareError = Error & { readonly code?: unknown };

/**
 * What every driver over a database or server has in common: a life (opened once, closed once), calls under way that `close` waits for, and
 * errors that callers of the port can work with.
 */
export class StoreCalls {
  readonly #underWay = new Set<Promise<unknown>>();
  #state: 'new' | 'open' | 'closed' = 'new';
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /**
   * @param explain the second half of a sentence that begins with "The store …"
   * @param failed is told of each call that failed: hints may have been lost
   */
  constructor(
    private readonly storeName: string,
    private readonly explain: (error: BareError) => string,
    private readonly failed: () => void,
  ) {}

  /** Opens the store with what `connect` gives. May be called again when it failed; calls at one time share an attempt. */
  async open<R>(connect: () => Promise<R>, opened: (result: R) => void): Promise<void> {
    if (this.#state === 'closed') throw new StoreClosedError(this.storeName);
    this.#opening ??= this.#openOnce(connect, opened).finally(() => (this.#opening = undefined));
    await this.#opening;
  }

  /** Refuses all further calls, runs `hasten`, waits until every call has its outcome, then disconnects. */
  close(hasten: () => Promise<unknown>, disconnect: () => Promise<void>): Promise<void> {
    this.#state = 'closed';
    this.#closing ??= this.#closeOnce(hasten, disconnect);
    return this.#closing;
  }

  /** @throws StoreClosedError before the store is open and after it was closed */
  mustBeOpen(): void {
    if (this.#state !== 'open') throw new StoreClosedError(this.storeName);
  }

  /** The answer to a question; whatever is thrown by others becomes a `StoreUnavailableError`. */
  async ask<R>(question: () => Promise<R>): Promise<R> {
    try {
      return await this.track(question());
    } catch (error) {
      this.failed();
      if (isSecretsError(error)) throw error;
      // What else errors of clients carry (parameters, rows, details) may hold stored values.
      const bare = redactError(error, []);
      throw new StoreUnavailableError(this.storeName, this.explain(bare), bare);
    }
  }

  /** Has `close` wait for this work. */
  async track<R>(work: Promise<R>): Promise<R> {
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
    }
  }

  async #openOnce<R>(connect: () => Promise<R>, opened: (result: R) => void): Promise<void> {
    if (this.#state === 'open') return;
    const result = await this.ask(connect);
    if (this.#state !== 'new') return;
    this.#state = 'open';
    opened(result);
  }

  async #closeOnce(hasten: () => Promise<unknown>, disconnect: () => Promise<void>): Promise<void> {
    await hasten();
    await Promise.allSettled(this.#underWay);
    await disconnect();
  }
}
