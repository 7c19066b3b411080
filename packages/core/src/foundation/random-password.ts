import { PasswordOptionsError } from './errors.js';
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

const LOWERCASE = 'abcdefghijklmnopqrstuvwxyz';
const UPPERCASE = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const NUMBERS = '0123456789';
const PUNCTUATION = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~';

const DEFAULT_LENGTH = 32;
const SHORTEST = 8;
const LONGEST = 4096;

/**
 * A random password: each character drawn uniformly from everything allowed, after one from each class where each is required, and then
 * shuffled. A class that `excludeCharacters` leaves empty is not included; the space is allowed by `includeSpace` but never required.
 * @throws PasswordOptionsError when the length is out of range or the options leave nothing to draw from
 */
export function randomPassword(options: PasswordOptions, randomness: Randomness): string {
  const length = options.length ?? DEFAULT_LENGTH;
  if (!Number.isInteger(length) || length < SHORTEST || length > LONGEST) {
    throw new PasswordOptionsError(
      `A password has ${SHORTEST} to ${LONGEST} characters; \`length\` is ${String(length)}.`,
    );
  }
  const classes = includedClasses(options);
  if (classes.length === 0) {
    throw new PasswordOptionsError(
      'The options exclude every letter, number and punctuation mark; leave at least one class something to draw from.',
    );
  }
  const space = options.includeSpace === true && !options.excludeCharacters?.includes(' ') ? ' ' : '';
  const everything = classes.join('') + space;

  const required = options.requireEachIncludedType === false ? [] : classes;
  const characters = required.map((alphabet) => draw(alphabet, randomness));
  while (characters.length < length) characters.push(draw(everything, randomness));
  return shuffled(characters, randomness).join('');
}

function includedClasses(options: PasswordOptions): string[] {
  const excluded = new Set(options.excludeCharacters);
  const classes = [
    options.excludeLowercase === true ? '' : LOWERCASE,
    options.excludeUppercase === true ? '' : UPPERCASE,
    options.excludeNumbers === true ? '' : NUMBERS,
    options.excludePunctuation === true ? '' : PUNCTUATION,
  ];
  return classes
    .map((alphabet) => [...alphabet].filter((character) => !excluded.has(character)).join(''))
    .filter((alphabet) => alphabet !== '');
}

function draw(alphabet: string, randomness: Randomness): string {
  return alphabet.charAt(randomness.below(alphabet.length));
}

/** Fisher–Yates: every order equally likely, so that the required characters stand anywhere. */
function shuffled(characters: readonly string[], randomness: Randomness): string[] {
  const result: string[] = [];
  for (const [index, character] of characters.entries()) {
    const place = randomness.below(index + 1);
    result.push(result[place] ?? character);
    result[place] = character;
  }
  return result;
}
