import { RotatorNotFoundError } from '../foundation/errors.js';
import type { LogCensor } from '../foundation/log-censor.js';
import { censoredRotator } from './censored-rotator.js';
import type { SecretRotator } from './secret-rotator.js';

/** The rotators of one application, by name. */
export class Rotators {
  readonly #rotators = new Map<string, SecretRotator>();

  /** @param censor told which values the rotators are at work with */
  constructor(private readonly censor?: LogCensor) {}

  /** A later one of the same name takes the place of the earlier, so that an application can override what a package brings. */
  add(name: string, rotator: SecretRotator): void {
    this.#rotators.set(name, this.censor === undefined ? rotator : censoredRotator(rotator, this.censor));
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
