import { randomBytes, randomInt } from 'node:crypto';

/** Where keys, nonces and passwords come from; tests put a seeded one here. */
export interface Randomness {
  /** `length` fresh random bytes in a buffer of their own (never a slice of a shared pool). */
  bytes(length: number): Buffer;
  /** A uniformly distributed integer from 0 up to, not including, `limit` (1 … 2^48 − 1). */
  below(limit: number): number;
}

/** The operating system's generator. */
export const cryptoRandomness: Randomness = {
  bytes: (length) => randomBytes(length),
  below: (limit) => randomInt(limit),
};
