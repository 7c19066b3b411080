/** An instance's word on one secret: what it runs on, and what its consumers still hold. */
export interface Acknowledgement {
  readonly secretName: string;
  /** The promotion its handle has reached. */
  readonly promotion: number;
  /** The label of each consumer, with the version ids it holds. */
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

/** Collects the acknowledgements of this instance, and tells who still keeps a version from being retired. */
export class Acknowledgements {
  readonly #latest = new Map<string, Acknowledgement>();
  readonly #listeners = new Set<(secretName: string) => void>();

  /** Takes the newest word on a secret. */
  acknowledge(acknowledgement: Acknowledgement): void {
    this.#latest.set(acknowledgement.secretName, acknowledgement);
    for (const listener of this.#listeners) listener(acknowledgement.secretName);
  }

  /**
   * Who keeps `versionId`, which was replaced by the given promotion, from being retired: empty once every handle has moved on and no
   * consumer holds it. An application that has no handle on the secret has nothing to acknowledge.
   */
  holders(secretName: string, versionId: string, promotion: number): string[] {
    const latest = this.#latest.get(secretName);
    if (latest === undefined) return [];
    const holding = latest.held.filter(({ versionIds }) => versionIds.includes(versionId)).map(({ label }) => label);
    return latest.promotion < promotion ? ['the handle in this process', ...holding] : holding;
  }

  /** Calls `listener` with the secret's name after each acknowledgement; the function returned ends it. */
  onAcknowledgement(listener: (secretName: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
