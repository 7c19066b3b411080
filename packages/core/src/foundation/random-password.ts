import type { Randomness } from './randomness.js';

/** What a random password may look like. */
export interface PasswordOptions {
  /** Characters, 8–4096; 32 by default. */
  readonly length?: number;
  readonly excludeLowercase?: boolean;
  readonly excludeUppercase?: boolean;
  readonly excludeNumbers?: boolean;
  readonly excludePunctuation?: boolean;
  /** Characters that must not occur, such as those a connection string cannot take. */
  readonly excludeCharacters?: string;
  /** False by default. */
  readonly includeSpace?: boolean;
  /** At least one character of each class that is not excluded; true by default. */
  readonly requireEachIncludedType?: boolean;
}

/**
 * A random password, each character drawn uniformly.
 * @throws PasswordOptionsError when the options leave nothing to draw from or ask for more classes than characters.
 */
export function randomPassword(_options: PasswordOptions, _randomness: Randomness): string {
  throw new Error("being written");
}
