import { RotatorNotFoundError } from '../foundation/errors.js';
import type { SecretRotator } from './secret-rotator.js';

/** The rotators of one application, by name. */
export class Rotators {
  readonly #rotators = new Map<string, SecretRotator>();

  /** A later one of the same name takes the place of the earlier, so that an application can override what a package brings. */
  add(name: string, rotator: SecretRotator): void {
    this.#rotators.set(name, rotator);
  }

  has(name: string): boolean {
    return this.#rotators.has(name);
  }

  /** @throws RotatorNotFoundError */
  get(name: string, secretName: string): SecretRotator {
    const rotator = this.#rotators.get(name);
    if (rotator === undefined) throw new RotatorNotFoundError(secretName, name, [...this.#rotators.keys()]);
    return rotator;
  }
}
