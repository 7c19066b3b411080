import { SecretsError } from '../foundation/errors.js';

/** What a glob reads: a string, or something that watches how it is read. */
export interface Characters {
  readonly length: number;
  charCodeAt(index: number): number;
}

/** The longest part between two `*` that may contain a `?`: such a part is searched for in the bits of one integer. */
export const LONGEST_SEARCHED_PART = 31;

const ANY = -1;
const QUESTION_MARK = 63;

/**
 * A pattern where `*` stands for any run of characters, the empty one included and `/` not excepted, and `?` for exactly one (a UTF-16 code
 * unit), as in RAM and IAM. Matching never goes back: it reads at most twice as many characters as text and pattern have together, whatever
 * the pattern. Parts between two `*` are found leftmost first, which loses no match; literal ones by Knuth, Morris and Pratt (1977), those
 * with a `?` by Shift-And (Baeza-Yates and Gonnet 1992).
 */
export class Glob {
  /** The text itself when the pattern has no wildcard. */
  readonly literal: string | undefined;
  /** What every match begins with, up to the first wildcard. */
  readonly prefix: string;
  /** What every match ends with, from the last wildcard on. */
  readonly suffix: string;
  /** The longest run of characters between two wildcards, which every match contains; empty when there is none. */
  readonly inside: string;
  readonly #head: Int32Array;
  readonly #tail: Int32Array;
  readonly #middle: readonly Search[];
  readonly #hasStar: boolean;
  readonly #shortest: number;

  /** @throws SecretsError `PATTERN_INVALID` see `LONGEST_SEARCHED_PART` */
  constructor(readonly pattern: string) {
    const parts = pattern.split('*');
    const wildcard = pattern.search(/[*?]/);
    this.literal = wildcard === -1 ? pattern : undefined;
    this.prefix = wildcard === -1 ? pattern : pattern.slice(0, wildcard);
    this.suffix = pattern.slice(Math.max(pattern.lastIndexOf('*'), pattern.lastIndexOf('?')) + 1);
    const runs = pattern.split(/[*?]/).slice(1, -1);
    this.inside = runs.reduce((longest, run) => (run.length > longest.length ? run : longest), '');
    this.#hasStar = parts.length > 1;
    this.#head = codesOf(parts[0] ?? '');
    this.#tail = codesOf(this.#hasStar ? (parts.at(-1) ?? '') : '');
    this.#middle = parts
      .slice(1, -1)
      .filter((part) => part !== '')
      .map((part) => (part.includes('?') ? new MaskedSearch(part) : new LiteralSearch(part)));
    this.#shortest = parts.reduce((sum, part) => sum + part.length, 0);
  }

  matches(text: Characters): boolean {
    const { length } = text;
    if (this.#hasStar ? length < this.#shortest : length !== this.#shortest) return false;
    if (!standsAt(text, 0, this.#head)) return false;
    const end = length - this.#tail.length;
    if (!standsAt(text, end, this.#tail)) return false;
    let from = this.#head.length;
    for (const part of this.#middle) {
      from = part.endOfFirst(text, from, end);
      if (from === -1) return false;
    }
    return true;
  }
}

/** Whether a glob could match some text that begins with `start` and goes on with at least `more` characters, or exactly ends there when `more` is undefined. */
export function canMatch(pattern: string, start: string, more: number | undefined): boolean {
  // Every position of the pattern that may be reached after the characters read so far.
  let positions = skipStars(pattern, new Set([0]));
  for (const character of start) {
    const next = new Set<number>();
    for (const position of positions) {
      const token = pattern[position];
      if (token === '*') next.add(position);
      else if (token === '?' || token === character) next.add(position + 1);
    }
    positions = skipStars(pattern, next);
  }
  if (more === undefined) return positions.has(pattern.length);
  for (const position of positions) {
    const rest = pattern.slice(position);
    if (rest.includes('*') || rest.length >= more) return true;
  }
  return false;
}

function skipStars(pattern: string, positions: Set<number>): Set<number> {
  // A set visits what is added while it is walked through.
  for (const position of positions) if (pattern[position] === '*') positions.add(position + 1);
  return positions;
}

/** Why a pattern cannot be matched in linear time; undefined when it can. */
export function globFault(pattern: string): string | undefined {
  const parts = pattern.split('*').slice(1, -1);
  const long = parts.find((part) => part.includes('?') && part.length > LONGEST_SEARCHED_PART);
  if (long === undefined) return undefined;
  return `has ${long.length} characters with a ? among them between two *; at most ${LONGEST_SEARCHED_PART} can be searched for`;
}

interface Search {
  /** Where the first occurrence between `from` and `end` ends; -1 when there is none. */
  endOfFirst(text: Characters, from: number, end: number): number;
}

class LiteralSearch implements Search {
  readonly #codes: Int32Array;
  /** How much of the part is still matched when the character after so many is another. */
  readonly #fallback: Int32Array;

  constructor(part: string) {
    this.#codes = codesOf(part);
    this.#fallback = new Int32Array(part.length);
    for (let index = 1, matched = 0; index < part.length; index += 1) {
      while (matched > 0 && this.#codes[index] !== this.#codes[matched]) matched = this.#fallback[matched - 1] ?? 0;
      if (this.#codes[index] === this.#codes[matched]) matched += 1;
      this.#fallback[index] = matched;
    }
  }

  endOfFirst(text: Characters, from: number, end: number): number {
    const codes = this.#codes;
    for (let index = from, matched = 0; index < end;) {
      // Read anew for every comparison, so that counting what is read counts the comparisons.
      if (text.charCodeAt(index) === codes[matched]) {
        matched += 1;
        index += 1;
        if (matched === codes.length) return index;
      } else if (matched === 0) index += 1;
      else matched = this.#fallback[matched - 1] ?? 0;
    }
    return -1;
  }
}

class MaskedSearch implements Search {
  readonly #masks = new Map<number, number>();
  readonly #anyMask: number;
  readonly #found: number;

  constructor(part: string) {
    if (part.length > LONGEST_SEARCHED_PART)
      throw new SecretsError('PATTERN_INVALID', `The pattern ${globFault(`*${part}*`)}.`);
    let anyMask = 0;
    for (let index = 0; index < part.length; index += 1) if (part[index] === '?') anyMask |= 1 << index;
    for (let index = 0; index < part.length; index += 1) {
      const code = part.charCodeAt(index);
      if (code !== QUESTION_MARK) this.#masks.set(code, (this.#masks.get(code) ?? anyMask) | (1 << index));
    }
    this.#anyMask = anyMask;
    this.#found = 1 << (part.length - 1);
  }

  endOfFirst(text: Characters, from: number, end: number): number {
    let state = 0;
    for (let index = from; index < end; index += 1) {
      state = ((state << 1) | 1) & (this.#masks.get(text.charCodeAt(index)) ?? this.#anyMask);
      if ((state & this.#found) !== 0) return index + 1;
    }
    return -1;
  }
}

function standsAt(text: Characters, from: number, codes: Int32Array): boolean {
  // From behind, since what differs mostly stands there: `secret/` is where all begin.
  for (let index = codes.length - 1; index >= 0; index -= 1) {
    const code = codes[index];
    if (code !== ANY && code !== text.charCodeAt(from + index)) return false;
  }
  return true;
}

function codesOf(part: string): Int32Array {
  return Int32Array.from({ length: part.length }, (_, index) => {
    const code = part.charCodeAt(index);
    return code === QUESTION_MARK ? ANY : code;
  });
}
