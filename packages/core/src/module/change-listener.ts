import type { Subscription } from 'rxjs';
import type { SecretAttachment } from '../client/secret-link.js';
import type { SecretHandle } from '../client/secret-handle.js';
import type { SecretChange } from '../client/secret.js';

/**
 * Runs one `@OnSecretChange` method: one call at a time, the newest change next. Counts as a consumer of the version it has not yet moved
 * on from, so that the old credential lives until the method is through.
 */
export class ChangeListener {
  #working: string | undefined;
  #waiting: SecretChange | undefined;
  readonly #attachment: SecretAttachment;
  readonly #subscription: Subscription;

  constructor(
    handle: SecretHandle,
    readonly label: string,
    private readonly listener: (change: SecretChange) => unknown,
    private readonly onError: (error: unknown) => void,
  ) {
    this.#attachment = handle.attach(this);
    let first = true;
    this.#subscription = handle.changes$.subscribe((change) => {
      if (first) first = false;
      else this.#take(change);
    });
  }

  /** The versions before the ones it is being told of. */
  holds(): Iterable<string> {
    return [this.#working, this.#waiting?.previousVersionId].filter((versionId) => versionId !== undefined);
  }

  close(): void {
    this.#subscription.unsubscribe();
    this.#attachment.detach();
  }

  #take(change: SecretChange): void {
    if (this.#working === undefined) void this.#run(change);
    else this.#waiting = change;
  }

  async #run(first: SecretChange): Promise<void> {
    for (let change: SecretChange | undefined = first; change !== undefined; change = this.#next()) {
      this.#working = change.previousVersionId;
      try {
        await this.listener(change);
      } catch (error) {
        this.onError(error);
      }
    }
    this.#working = undefined;
    this.#attachment.update();
  }

  #next(): SecretChange | undefined {
    const next = this.#waiting;
    this.#waiting = undefined;
    return next;
  }
}
