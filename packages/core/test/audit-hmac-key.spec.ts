import { createHmac, randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { HmacKey, ROOM_START } from '../src/audit/hmac-key.js';

const native = (key: Uint8Array, message: Uint8Array): string =>
  createHmac('sha256', key).update(message).digest('hex');

describe('an HMAC key', () => {
  // RFC 4231, test cases 1 to 3: keys of up to 64 bytes.
  it.each([
    ['0b'.repeat(20), '4869205468657265', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
    [
      '4a656665',
      '7768617420646f2079612077616e7420666f72206e6f7468696e673f',
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
    ['aa'.repeat(20), 'dd'.repeat(50), '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe'],
  ])('agrees with RFC 4231 for the key %s', (key, message, expected) => {
    expect(new HmacKey(Buffer.from(key, 'hex')).mac(Buffer.from(message, 'hex'))).toBe(expected);
  });

  it('agrees with node for messages of any length, in one part or several, in any order', () => {
    const secret = randomBytes(32);
    const key = new HmacKey(secret);
    for (const length of [0, 1, 63, 64, 65, 1023, 1024, 1025, 5000, 1_048_576, 1_048_577, 3_000_000, 55, 56, 0, 700]) {
      const message = randomBytes(length);
      const expected = native(secret, message);
      const cut = Math.floor(length / 3);
      expect(key.mac(message)).toBe(expected);
      expect(key.mac(message.subarray(0, cut), message.subarray(cut))).toBe(expected);
    }
  });

  it('takes messages that were written into its room', () => {
    const secret = randomBytes(32);
    const key = new HmacKey(secret);
    for (const text of ['', 'short', 'ünïcödé 🔑'.repeat(400), 'short again']) {
      const bytes = key.room(Buffer.byteLength(text)).write(text, ROOM_START);
      expect(key.macOfRoom(bytes)).toBe(native(secret, Buffer.from(text)));
    }
  });
});
