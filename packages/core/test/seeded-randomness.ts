import { createHash } from 'node:crypto';
import type { Randomness } from '@nestjs-secrets/core';

/** The same bytes and numbers for the same seed, in the order they are asked for: SHA-256 over seed and counter. */
export function seededRandomness(seed: string): Randomness {
  let counter = 0;
  const block = (): Buffer => createHash('sha256').update(`${seed}:${counter++}`).digest();
  return {
    bytes(length) {
      const blocks: Buffer[] = [];
      for (let have = 0; have < length; have += 32) blocks.push(block());
      return Buffer.from(Buffer.concat(blocks).subarray(0, length));
    },
    // 48 bits over a small limit: the bias is far below anything a test can see.
    below: (limit) => block().readUIntBE(0, 6) % limit,
  };
}
