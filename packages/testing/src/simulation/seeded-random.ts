import type { Randomness } from '@nestjs-secrets/core';

/**
 * The chance of a simulated world: the same draws for the same seed, on every machine. A small fast generator (sfc32, by Chris Doty-Humphrey,
 * PractRand), fit for scenarios and for nothing that must stay secret.
 */
export class SeededRandom implements Randomness {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 2 ** 32) | 0;
    this.#c = 0x9e3779b9;
    for (let round = 0; round < 12; round += 1) this.#next();
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let offset = 0; offset < length; offset += 1) bytes[offset] = this.#next() & 0xff;
    return bytes;
  }

  below(limit: number): number {
    return Math.floor((this.#next() / 2 ** 32) * limit);
  }

  /** A real number from `low` up to, not including, `high`. */
  between(low: number, high: number): number {
    return low + (this.#next() / 2 ** 32) * (high - low);
  }

  chance(probability: number): boolean {
    return this.#next() < probability * 2 ** 32;
  }

  /** @throws RangeError for an empty list */
  pick<T>(choices: readonly T[]): T {
    const index = this.below(choices.length);
    for (const choice of choices.slice(index, index + 1)) return choice;
    throw new RangeError('There is nothing to pick from.');
  }

  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }
}
