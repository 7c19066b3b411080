import { inspect } from 'node:util';

/** One immutable value of a secret, with the id of its version: the pair is never torn. Prints without its value. */
export interface SecretVersion<T = unknown> {
  /** The secret's name. */
  readonly name: string;
  readonly versionId: string;
  readonly value: T;
}

/**
 * A `SecretVersion` that can be logged, serialised and inspected: only its name and version id ever show. The value sits in a private
 * field, out of reach of `JSON.stringify`, `util.inspect`, spreads and test reports.
 */
export class ConcealedVersion<T = unknown> implements SecretVersion<T> {
  readonly name: string;
  readonly versionId: string;
  readonly #value: T;

  constructor(name: string, versionId: string, value: T) {
    this.name = name;
    this.versionId = versionId;
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  toString(): string {
    return `SecretVersion(${this.name}@${this.versionId})`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}
