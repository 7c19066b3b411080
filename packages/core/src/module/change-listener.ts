import type { Subscription } from 'rxjs';
import type { SecretAttachment } from '../client/secret-link.js';
import type { SecretHandle } from '../client/secret-handle.js';
import type { SecretChange } from '../client/secret.js';

/**
 * Runs one `@OnSecretChange` method: one call at a time, the newest change next. Counts as a consumer of the version it has not yet moved
 * on from, so that the old credential lives until the method is through.
 */
export class ChangeListener {
  /** While the method runs: the version it comes from, and the one it was told of. */
  #between: readonly [string, string] | undefined;
  #on: string;
  #waiting: SecretChange | undefined;
  readonly #attachment: SecretAttachment;
  readonly #subscription: Subscription;

  constructor(
    handle: SecretHandle,
    readonly label: string,
    private readonly listener: (change: SecretChange) => unknown,
    private readonly onError: (error: unknown, change: SecretChange) => void,
  ) {
    this.#on = handle.versionId;
    this.#attachment = handle.attach(this);
    this.#subscription = handle.changes$.subscribe((change) => {
      if (change.versionId !== this.#on || this.#between !== undefined) this.#take(change);
    });
  }

  holds(): Iterable<string> {
    return this.#between ?? [];
  }

  close(): void {
    this.#subscription.unsubscribe();
    this.#attachment.detach();
  }

  #take(change: SecretChange): void {
    if (this.#between === undefined) void this.#run(change);
    else this.#waiting = change;
  }

  async #run(first: SecretChange): Promise<void> {
    for (let change: SecretChange | undefined = first; change !== undefined; change = this.#next()) {
      this.#between = [this.#on, change.versionId];
      this.#attachment.update();
      try {
        await this.listener(change);
      } catch (error) {
        this.onError(error, change);
      }
      this.#on = change.versionId;
    }
    this.#between = undefined;
    this.#attachment.update();
  }

  #next(): SecretChange | undefined {
    const next = this.#waiting;
    this.#waiting = undefined;
    return next;
  }
}
