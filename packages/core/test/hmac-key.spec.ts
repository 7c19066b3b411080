import { describe, expect, it } from '@jest/globals';
import { createHmac } from 'node:crypto';
import { HmacKey, ROOM_START } from '../src/foundation/hmac-key.js';
import { seededRandomness } from './seeded-randomness.js';

/** RFC 4231, sections 4.2 to 4.5: those whose key is not longer than a block. */
const VECTORS = [
  {
    key: Buffer.alloc(20, 0x0b),
    data: Buffer.from('Hi There'),
    mac: 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
  },
  {
    key: Buffer.from('Jefe'),
    data: Buffer.from('what do ya want for nothing?'),
    mac: '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  },
  {
    key: Buffer.alloc(20, 0xaa),
    data: Buffer.alloc(50, 0xdd),
    mac: '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe',
  },
  {
    key: Buffer.from('0102030405060708090a0b0c0d0e0f10111213141516171819', 'hex'),
    data: Buffer.alloc(50, 0xcd),
    mac: '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b',
  },
];

function macOf(key: HmacKey, ...parts: readonly Uint8Array[]): string {
  const mac = Buffer.alloc(34);
  key.write(mac, 1, 32, ...parts);
  expect([mac[0], mac[33]]).toEqual([0, 0]);
  return mac.subarray(1, 33).toString('hex');
}

describe('a MAC', () => {
  it.each(VECTORS)('is that of RFC 4231: $mac', ({ key, data, mac }) => {
    expect(macOf(new HmacKey(key), data)).toBe(mac);
    expect(macOf(new HmacKey(key), data.subarray(0, 3), data.subarray(3))).toBe(mac);
  });

  it('is that of createHmac for messages of any length, one after the other under one key', () => {
    const randomness = seededRandomness('mac');
    const bytes = randomness.bytes(32);
    const key = new HmacKey(bytes);
    // Those that fit, those that make more room, and those that are hashed where they are.
    for (const length of [0, 1, 63, 64, 65, 500, 40, 8128, 16_384, 16_385, 70_000, 3, 2_000_000, 64]) {
      const message = randomness.bytes(length);
      const expected = createHmac('sha256', bytes).update(message).digest('hex');
      const cut = Math.floor(length / 3);
      expect(macOf(key, message)).toBe(expected);
      expect(key.mac(message)).toBe(expected);
      expect(key.mac(message.subarray(0, cut), message.subarray(cut))).toBe(expected);
    }
  });

  it('is made of what was written into the room of its key', () => {
    const bytes = seededRandomness('room').bytes(32);
    const key = new HmacKey(bytes);
    for (const text of ['', 'short', 'ünïcödé 🔑'.repeat(4000), 'short again']) {
      const length = key.room(Buffer.byteLength(text)).write(text, ROOM_START);
      expect(key.macOfRoom(length)).toBe(createHmac('sha256', bytes).update(text).digest('hex'));
    }
  });

  it('proves what it was made of, whole or cut, and nothing else', () => {
    const key = new HmacKey(Buffer.alloc(32, 1));
    const message = Buffer.from('message');
    const mac = Buffer.from(macOf(key, message), 'hex');
    for (const length of [32, 16]) {
      const tag = Buffer.from(mac.subarray(0, length));
      expect(key.proves(tag, message)).toBe(true);
      expect(key.proves(tag, Buffer.from('messagf'))).toBe(false);
      expect(new HmacKey(Buffer.alloc(32, 2)).proves(tag, message)).toBe(false);
      for (let at = 0; at < length; at += 1) {
        tag[at] = (tag[at] ?? 0) ^ 0x80;
        expect(key.proves(tag, message)).toBe(false);
        tag[at] = (tag[at] ?? 0) ^ 0x80;
      }
    }
    for (const length of [0, 1, 15]) expect(key.proves(mac.subarray(0, length), message)).toBe(false);
    expect(key.proves(Buffer.concat([mac, mac]), message)).toBe(false);
  });

  it('is made no more once the key was overwritten', () => {
    const key = new HmacKey(Buffer.alloc(32, 1), () => new RangeError('over'));
    const [short, long] = [Buffer.from('x'), Buffer.alloc(20_000)];
    key.end();
    for (const use of [
      () => macOf(key, short),
      () => key.mac(short),
      () => key.mac(long),
      () => key.macOfRoom(1),
      () => key.proves(Buffer.alloc(16), short),
    ])
      expect(use).toThrow(RangeError);
  });
});
