import { SecretNotFoundError, type SecretSnapshot, type SecretSource } from '@nestjs-secrets/core';

/** A source over values given by hand: no store, no keys, no timers. */
export class FixedSecretSource implements SecretSource {
  readonly name = 'test';
  readonly #snapshots = new Map<string, SecretSnapshot>();
  readonly #listeners = new Set<(secretName?: string) => void>();

  constructor(secrets: Readonly<Record<string, unknown>>) {
    for (const [name, value] of Object.entries(secrets)) this.set(name, value);
  }

  /** Makes `value` the next version of a secret. */
  set(name: string, value: unknown): void {
    const promotion = (this.#snapshots.get(name)?.promotion ?? 0) + 1;
    this.#snapshots.set(name, {
      name,
      versionId: `v${promotion}`,
      value,
      promotion,
      rolledBack: false,
      expiresAt: undefined,
    });
    for (const listener of this.#listeners) listener(name);
  }

  async fetch(secretName: string): Promise<SecretSnapshot> {
    const snapshot = this.#snapshots.get(secretName);
    if (snapshot === undefined) throw new SecretNotFoundError(secretName);
    return snapshot;
  }

  async candidates(secretName: string): Promise<readonly SecretSnapshot[]> {
    return [await this.fetch(secretName)];
  }

  watch(onHint: (secretName?: string) => void): () => void {
    this.#listeners.add(onHint);
    return () => this.#listeners.delete(onHint);
  }
}
