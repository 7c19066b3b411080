import { describe, expect, it } from '@jest/globals';
import {
  type CmkRef,
  cryptoRandomness,
  ephemeralKeys,
  type EnvelopeContext,
  isSecretsError,
  type KeyProvider,
  Keyring,
  type Randomness,
} from '@nestjs-secrets/core';
import { seededRandomness } from './seeded-randomness.js';

const STORE = 'store-1';
const CONTEXT: EnvelopeContext = { secretName: 'MyDbCreds', versionId: 'v1' };
const PLAINTEXT = Buffer.from('j{"username":"orders_a","password":"canary-9f3"}');

const outcome = async (opening: Promise<Buffer>): Promise<string> => {
  try {
    return `opened ${(await opening).toString('base64')}`;
  } catch (error) {
    expect(String(error)).not.toContain('canary');
    return isSecretsError(error) ? error.code : `not ours: ${String(error)}`;
  }
};

/** The same provider, answering later, as one behind a network does. */
const later = (provider: KeyProvider): KeyProvider => ({
  name: 'later',
  open: () => provider.open(),
  close: () => provider.close(),
  active: async () => provider.active(),
  wrap: async (cmk, dataKey, associatedData) => provider.wrap(cmk, dataKey, associatedData),
  unwrap: async (cmk, wrappedKey, associatedData) => provider.unwrap(cmk, wrappedKey, associatedData),
});

const withAnswers = (answers: Partial<KeyProvider>): KeyProvider => ({ ...ephemeralKeys(), name: 'odd', ...answers });

describe('Keyring', () => {
  it.each([0, 1, 200, 65_537])('opens what it sealed: %d bytes', async (length) => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const plaintext = cryptoRandomness.bytes(length);
    const kept = Buffer.from(plaintext);
    const envelope = await keyring.seal(CONTEXT, plaintext);
    expect(plaintext.equals(kept)).toBe(true);
    expect(await outcome(keyring.open(CONTEXT, envelope))).toBe(`opened ${kept.toString('base64')}`);
    if (length >= 200) expect(envelope.includes(kept.subarray(0, 16))).toBe(false);
  });

  it('opens an envelope that is a view into a larger buffer, as drivers return them', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    const larger = new Uint8Array(envelope.length + 20).fill(7);
    larger.set(envelope, 11);
    const opened = await keyring.open(CONTEXT, larger.subarray(11, 11 + envelope.length));
    expect(opened.equals(PLAINTEXT)).toBe(true);
  });

  it('works the same with a provider that answers later', async () => {
    const provider = ephemeralKeys();
    const slow = new Keyring(later(provider), STORE, cryptoRandomness);
    const quick = new Keyring(provider, STORE, cryptoRandomness);
    expect((await quick.open(CONTEXT, await slow.seal(CONTEXT, PLAINTEXT))).equals(PLAINTEXT)).toBe(true);
    expect((await slow.open(CONTEXT, await quick.seal(CONTEXT, PLAINTEXT))).equals(PLAINTEXT)).toBe(true);
  });

  it('never seals the same value into the same bytes', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const tails = new Set<string>();
    for (let count = 0; count < 50; count += 1)
      tails.add((await keyring.seal(CONTEXT, PLAINTEXT)).toString('hex').slice(-120));
    expect(tails.size).toBe(50);
  });

  it('answers no flipped bit with anything but its own errors, and with no wrong value', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    for (let place = 0; place < envelope.length; place += 1) {
      for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
        const changed = Buffer.from(envelope);
        changed.writeUInt8(changed.readUInt8(place) ^ bit, place);
        expect([place, bit, await outcome(keyring.open(CONTEXT, changed))]).toEqual([
          place,
          bit,
          expect.stringMatching(/^(RECORD_CORRUPT|KEY_MISMATCH)$/),
        ]);
      }
    }
  });

  it('refuses every truncation and every extension', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    for (let length = 0; length < envelope.length; length += 1) {
      const code = await outcome(keyring.open(CONTEXT, envelope.subarray(0, length)));
      expect([length, code]).toEqual([length, 'RECORD_CORRUPT']);
    }
    expect(await outcome(keyring.open(CONTEXT, Buffer.concat([envelope, Buffer.alloc(1)])))).toBe('RECORD_CORRUPT');
  });

  it('refuses random bytes, also after a valid beginning', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    const noise = seededRandomness('noise');
    for (let round = 0; round < 500; round += 1) {
      const kept = envelope.subarray(0, noise.below(envelope.length - 1));
      const code = await outcome(keyring.open(CONTEXT, Buffer.concat([kept, noise.bytes(noise.below(200) + 8)])));
      expect(code).toMatch(/^(RECORD_CORRUPT|KEY_MISMATCH)$/);
    }
  });

  it.each<[string, number, number[]]>([
    ['format 0', 4, [0]],
    ['format 2', 4, [2]],
    ['suite 0', 5, [0]],
    ['suite 2', 5, [2]],
    ['suite 255', 5, [255]],
    ['no key id', 6, [0]],
    ['a key id longer than the envelope', 6, [255]],
    ['key version 0', 7 + 42, [0, 0, 0, 0]],
    ['no wrapped key', 7 + 42 + 4, [0, 0]],
    ['a wrapped key longer than the envelope', 7 + 42 + 4, [255, 255]],
  ])('refuses %s as corrupt before any key is asked', async (_what, at, bytes) => {
    const provider = ephemeralKeys();
    const envelope = await new Keyring(provider, STORE, cryptoRandomness).seal(CONTEXT, PLAINTEXT);
    // The offsets above count on the length of an ephemeral key's id.
    expect((await provider.active()).id).toHaveLength(42);
    envelope.set(bytes, at);
    const unwrap = (): Buffer => {
      throw new Error('asked');
    };
    const keyring = new Keyring({ ...provider, unwrap }, STORE, cryptoRandomness);
    expect(await outcome(keyring.open(CONTEXT, envelope))).toBe('RECORD_CORRUPT');
  });

  it('refuses a suite below the lowest one allowed', async () => {
    const provider = ephemeralKeys();
    const envelope = await new Keyring(provider, STORE, cryptoRandomness).seal(CONTEXT, PLAINTEXT);
    const strict = new Keyring(provider, STORE, cryptoRandomness, 2);
    await expect(strict.open(CONTEXT, envelope)).rejects.toThrow('suite 1 is below the lowest one allowed, 2');
  });

  it('opens at its own place only', async () => {
    const provider = ephemeralKeys();
    const keyring = new Keyring(provider, STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    const elsewhere: [string, Keyring, EnvelopeContext][] = [
      ['another secret', keyring, { ...CONTEXT, secretName: 'MyDbCred' }],
      ['another version', keyring, { ...CONTEXT, versionId: 'v2' }],
      ['name and version cut elsewhere', keyring, { secretName: 'MyDbCredsv', versionId: '1' }],
      ['another store', new Keyring(provider, 'store-2', cryptoRandomness), CONTEXT],
      ['another key', new Keyring(ephemeralKeys(), STORE, cryptoRandomness), CONTEXT],
    ];
    for (const [what, where, context] of elsewhere) {
      expect([what, await outcome(where.open(context, envelope))]).toEqual([what, 'KEY_MISMATCH']);
    }
  });

  it('binds body and commitment to the place too, should a provider ignore associated data', async () => {
    const provider = ephemeralKeys();
    const careless: KeyProvider = {
      ...provider,
      wrap: (cmk, dataKey) => provider.wrap(cmk, dataKey, Buffer.alloc(0)),
      unwrap: (cmk, wrappedKey) => provider.unwrap(cmk, wrappedKey, Buffer.alloc(0)),
    };
    const keyring = new Keyring(careless, STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    expect(await outcome(keyring.open(CONTEXT, envelope))).toMatch(/^opened/);
    for (const context of [
      { ...CONTEXT, secretName: 'Other' },
      { ...CONTEXT, versionId: 'v2' },
    ]) {
      expect(await outcome(keyring.open(context, envelope))).toBe('RECORD_CORRUPT');
    }
    const other = new Keyring(careless, 'store-2', cryptoRandomness);
    expect(await outcome(other.open(CONTEXT, envelope))).toBe('RECORD_CORRUPT');
  });

  it('refuses the parts of one envelope in another of the same place', async () => {
    const keyring = new Keyring(ephemeralKeys(), STORE, cryptoRandomness);
    const one = await keyring.seal(CONTEXT, PLAINTEXT);
    const other = await keyring.seal(CONTEXT, PLAINTEXT);
    const boxAt = one.length - PLAINTEXT.length - 28;
    for (const at of [boxAt, boxAt - 32]) {
      const mixed = Buffer.concat([one.subarray(0, at), other.subarray(at)]);
      expect(await outcome(keyring.open(CONTEXT, mixed))).toBe('RECORD_CORRUPT');
    }
  });

  it('zeroes the data keys, on the way out and on the way wrong', async () => {
    const provider = ephemeralKeys();
    const seen: Uint8Array[] = [];
    const watching: KeyProvider = {
      ...provider,
      wrap: (cmk, dataKey, associatedData) => {
        seen.push(dataKey);
        return provider.wrap(cmk, dataKey, associatedData);
      },
      unwrap: async (cmk, wrappedKey, associatedData) => {
        const dataKey = await provider.unwrap(cmk, wrappedKey, associatedData);
        seen.push(dataKey);
        return dataKey;
      },
    };
    const keyring = new Keyring(watching, STORE, cryptoRandomness);
    const envelope = await keyring.seal(CONTEXT, PLAINTEXT);
    await keyring.open(CONTEXT, envelope);
    const last = envelope.length - 1;
    envelope.writeUInt8(envelope.readUInt8(last) ^ 1, last);
    expect(await outcome(keyring.open(CONTEXT, envelope))).toBe('RECORD_CORRUPT');
    expect(seen).toHaveLength(3);
    for (const dataKey of seen) expect(Buffer.from(dataKey).equals(Buffer.alloc(32))).toBe(true);
  });

  it('takes 44 fresh bytes for each envelope and uses them once', async () => {
    const asked: number[] = [];
    const counting: Randomness = {
      ...cryptoRandomness,
      bytes: (length) => {
        asked.push(length);
        return cryptoRandomness.bytes(length);
      },
    };
    const keyring = new Keyring(ephemeralKeys(), STORE, counting);
    await keyring.seal(CONTEXT, PLAINTEXT);
    await keyring.seal(CONTEXT, PLAINTEXT);
    expect(asked).toEqual([44, 44]);
  });

  it.each<[string, Partial<KeyProvider>]>([
    ['an empty key id', { active: (): CmkRef => ({ id: '', version: 1 }) }],
    ['a key id with a space', { active: (): CmkRef => ({ id: 'my key', version: 1 }) }],
    ['key version 0', { active: (): CmkRef => ({ id: 'k', version: 0 }) }],
    ['key version 2^32', { active: (): CmkRef => ({ id: 'k', version: 2 ** 32 }) }],
    ['an empty wrapped key', { wrap: () => Buffer.alloc(0) }],
    ['a wrapped key past 65,535 bytes', { wrap: () => Buffer.alloc(65_536) }],
  ])('seals nothing when the provider gives %s', async (_what, answers) => {
    const keyring = new Keyring(withAnswers(answers), STORE, cryptoRandomness);
    expect(await outcome(keyring.seal(CONTEXT, PLAINTEXT))).toBe('KEY_PROVIDER_INVALID');
  });

  it('takes wrapped keys as long as the format allows', async () => {
    const provider = ephemeralKeys();
    const padded = withAnswers({
      active: () => provider.active(),
      wrap: async (...args) => Buffer.concat([await provider.wrap(...args), Buffer.alloc(65_535 - 60)]),
      unwrap: (cmk, wrappedKey, associatedData) => provider.unwrap(cmk, wrappedKey.subarray(0, 60), associatedData),
    });
    const keyring = new Keyring(padded, STORE, cryptoRandomness);
    expect((await keyring.open(CONTEXT, await keyring.seal(CONTEXT, PLAINTEXT))).equals(PLAINTEXT)).toBe(true);
  });

  it('refuses a data key of another size, or another data key', async () => {
    const provider = ephemeralKeys();
    const envelope = await new Keyring(provider, STORE, cryptoRandomness).seal(CONTEXT, PLAINTEXT);
    const opening = (dataKey: Buffer): Promise<string> =>
      outcome(new Keyring({ ...provider, unwrap: () => dataKey }, STORE, cryptoRandomness).open(CONTEXT, envelope));
    expect(await opening(Buffer.alloc(16))).toBe('KEY_MISMATCH');
    expect(await opening(Buffer.alloc(32))).toBe('RECORD_CORRUPT');
  });
});
