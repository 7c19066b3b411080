import type { Span } from './blot.js';
import { SHORTEST_SECRET_PART } from './secret-parts.js';
import type { Randomness } from './randomness.js';

const WINDOW = SHORTEST_SECRET_PART;
/** Under Jest each look at a global takes longer than the multiplication, and there are thousands for each value. */
const { imul } = Math;

/** What is known of a string that is looked for: not the string itself. */
interface Mark {
  readonly window: number;
  readonly length: number;
  readonly hashes: readonly [number, number];
  /** Each base to the power of `length`. */
  readonly powers: readonly [number, number];
  uses: number;
}

/**
 * Finds strings in texts by their fingerprints (Rabin–Karp: a rolling hash over 6 characters, then two hashes over the whole), so that it
 * keeps no copy of any, and a text takes time in proportion to its length, however many strings are looked for. Never misses one; what it
 * takes for one wrongly, by chance only, is blotted out without need.
 */
export class Fingerprints {
  readonly #marks = new Map<number, Mark[]>();
  readonly #bases: readonly [number, number];
  readonly #windowPower: number;

  constructor(randomness: Randomness) {
    // Odd, so that no power of it is zero modulo 2^32.
    this.#bases = [randomness.below(2 ** 32) | 1, randomness.below(2 ** 32) | 1];
    this.#windowPower = power(this.#bases[0], WINDOW - 1);
  }

  /** Looks for a string of 6 characters or more from now on, until the function returned is called. */
  add(text: string): () => void {
    const [one, other] = this.#bases;
    const window = hashOf(text.slice(0, WINDOW), one);
    const hashes = [hashOf(text, one), hashOf(text, other)] as const;
    const known = this.#marks.get(window) ?? [];
    let mark = known.find(
      ({ length, hashes: [first, second] }) => length === text.length && first === hashes[0] && second === hashes[1],
    );
    if (mark === undefined) {
      const powers = [power(one, text.length), power(other, text.length)] as const;
      mark = { window, length: text.length, hashes, powers, uses: 0 };
      this.#marks.set(window, [...known, mark]);
    }
    mark.uses += 1;
    return this.#releaseOnce(mark);
  }

  /** Where the strings stand in the text, in the order of their beginnings. */
  spansIn(text: string): Span[] {
    const spans: Span[] = [];
    if (this.#marks.size === 0 || text.length < WINDOW) return spans;
    const [base] = this.#bases;
    let sums: readonly [Int32Array, Int32Array] | undefined;
    let window = hashOf(text.slice(0, WINDOW), base);
    for (let at = 0; ; at += 1) {
      const marks = this.#marks.get(window);
      if (marks !== undefined) {
        sums ??= [sumsOf(text, this.#bases[0]), sumsOf(text, this.#bases[1])];
        for (const mark of marks) if (isAt(mark, at, text.length, sums)) spans.push([at, at + mark.length]);
      }
      if (at + WINDOW >= text.length) return spans;
      const without = (window - imul(text.charCodeAt(at), this.#windowPower)) | 0;
      window = (imul(without, base) + text.charCodeAt(at + WINDOW)) | 0;
    }
  }

  #releaseOnce(mark: Mark): () => void {
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      mark.uses -= 1;
      if (mark.uses > 0) return;
      const left = (this.#marks.get(mark.window) ?? []).filter((other) => other !== mark);
      if (left.length === 0) this.#marks.delete(mark.window);
      else this.#marks.set(mark.window, left);
    };
  }
}

function isAt(mark: Mark, at: number, length: number, sums: readonly [Int32Array, Int32Array]): boolean {
  const end = at + mark.length;
  if (end > length) return false;
  return [0, 1].every((index) => {
    const sum = sums[index === 0 ? 0 : 1];
    const factor = mark.powers[index === 0 ? 0 : 1];
    const before = sum[at] ?? 0;
    return (((sum[end] ?? 0) - imul(before, factor)) | 0) === mark.hashes[index === 0 ? 0 : 1];
  });
}

function hashOf(text: string, base: number): number {
  let hash = 0;
  for (let at = 0; at < text.length; at += 1) hash = (imul(hash, base) + text.charCodeAt(at)) | 0;
  return hash;
}

/** The hash of every beginning of the text. */
function sumsOf(text: string, base: number): Int32Array {
  const sums = new Int32Array(text.length + 1);
  let hash = 0;
  for (let at = 0; at < text.length; at += 1) {
    hash = (imul(hash, base) + text.charCodeAt(at)) | 0;
    sums[at + 1] = hash;
  }
  return sums;
}

function power(base: number, exponent: number): number {
  let result = 1;
  for (let left = exponent; left > 0; left -= 1) result = imul(result, base);
  return result;
}
