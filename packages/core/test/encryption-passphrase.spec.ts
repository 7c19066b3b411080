import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CmkRef,
  cryptoRandomness,
  isSecretsError,
  type KeyProvider,
  localKeyFile,
  passphraseKeyFile,
  type SecretsError,
} from '@nestjs-secrets/core';
import { keyProviderConformance } from '@nestjs-secrets/testing';
import { LocalKeyFile } from '../src/encryption/local-key-file.js';
import { PassphraseWrapping, scryptKey } from '../src/encryption/passphrase-wrapping.js';

const PASSPHRASE = 'correct horse battery staple';
const DATA_KEY = Buffer.alloc(32, 7);
const PLACE = Buffer.from('store, secret, version');

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-passphrase-'));
  path = join(folder, 'keys.json');
});
afterEach(() => rm(folder, { recursive: true }));

/** As slow as a hash: for what is not about the cost of guessing. */
const cheaply = async (passphrase: string, salt: Buffer, logN: number): Promise<Buffer> =>
  createHash('sha256')
    .update(`${passphrase}:${salt.toString('hex')}:${logN}`)
    .digest();
const cheap = (file = path, passphrase = PASSPHRASE): KeyProvider =>
  new LocalKeyFile(
    file,
    undefined,
    cryptoRandomness,
    new PassphraseWrapping(passphrase, 17, cryptoRandomness, cheaply),
  );
const failure = async (work: Promise<unknown>): Promise<SecretsError> => {
  const error: unknown = await work.then(
    () => 'no failure',
    (reason: unknown) => reason,
  );
  if (!isSecretsError(error)) throw new Error(`not an error of ours: ${inspect(error)}`);
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(PASSPHRASE);
  return error;
};

describe('the key of a passphrase', () => {
  it('is that of RFC 7914', async () => {
    // Section 12: "pleaseletmein", "SodiumChloride", N = 16384, r = 8, p = 1; the first half of 64 bytes.
    const key = await scryptKey('pleaseletmein', Buffer.from('SodiumChloride'), 14);
    expect(key.toString('hex')).toBe('7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2');
  });
});

describe('a passphrase key file', () => {
  const harness = {
    outlive: true,
    createKeys: async () => {
      const own = await mkdtemp(join(tmpdir(), 'nestjs-secrets-passphrase-'));
      return {
        connect: () => cheap(join(own, 'own.json')),
        connectToOthers: () => cheap(join(own, 'others.json')),
        dispose: () => rm(own, { recursive: true }),
      };
    },
  };
  for (const { name, run } of keyProviderConformance(harness)) it(name, run);

  it('opens with its passphrase, really derived, and with no other', async () => {
    const first = passphraseKeyFile({ path, passphrase: PASSPHRASE });
    await first.open();
    const cmk = (await first.active()) satisfies CmkRef;
    const wrapped = await first.wrap(cmk, DATA_KEY, PLACE);
    await first.close();
    expect((await stat(path)).mode & 0o777).toBe(0o600);

    const again = passphraseKeyFile({ path, passphrase: async () => PASSPHRASE, create: 'never' });
    await again.open();
    expect(await again.unwrap(cmk, wrapped, PLACE)).toEqual(DATA_KEY);
    await again.close();

    const wrong = await failure(passphraseKeyFile({ path, passphrase: `${PASSPHRASE}!` }).open());
    expect(wrong.code).toBe('KEY_FILE_LOCKED');
  });

  it('shows neither key nor passphrase on disk', async () => {
    const plain = join(folder, 'plain.json');
    await localKeyFile({ path: plain }).open();
    const provider = cheap();
    await provider.open();
    const text = await readFile(path, 'utf8');
    expect(Object.keys(JSON.parse(text) as object)).toEqual(['format', 'scrypt', 'sealed']);
    expect(text).not.toContain(PASSPHRASE);
    expect(text).not.toContain((await provider.active()).id);
  });

  it('takes the same characters for the same passphrase, however they are typed', async () => {
    await cheap(path, 'une p\u00e9riph\u00e9rie de mots').open();
    await expect(cheap(path, 'une pe\u0301riphe\u0301rie de mots').open()).resolves.toBeUndefined();
  });

  it('is not made with a short passphrase', async () => {
    const { code, message } = await failure(passphraseKeyFile({ path, passphrase: 'hunter2' }).open());
    expect([code, message]).toEqual(['KEY_FILE_LOCKED', expect.stringContaining('fewer than 15')]);
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  it('keeps salt and cost with the sealed keys, and notices when they are changed', async () => {
    await cheap().open();
    const file = JSON.parse(await readFile(path, 'utf8')) as { scrypt: Record<string, unknown>; sealed: string };
    expect(file.scrypt).toEqual({ logN: 17, r: 8, p: 1, salt: expect.stringMatching(/^[A-Za-z0-9+/]{22}==$/) });
    const changed = Buffer.from(file.sealed, 'base64');
    changed[40] = (changed[40] ?? 0) ^ 1;
    const cases: [object, string][] = [
      [{ ...file, scrypt: { ...file.scrypt, logN: 18 } }, 'KEY_FILE_LOCKED'],
      [{ ...file, scrypt: { ...file.scrypt, salt: Buffer.alloc(16).toString('base64') } }, 'KEY_FILE_LOCKED'],
      [{ ...file, sealed: changed.toString('base64') }, 'KEY_FILE_LOCKED'],
      [{ ...file, sealed: '' }, 'KEY_FILE_LOCKED'],
      [{ ...file, scrypt: { ...file.scrypt, logN: 16 } }, 'KEY_FILE_INVALID'],
      [{ ...file, scrypt: { ...file.scrypt, logN: 30 } }, 'KEY_FILE_INVALID'],
      [{ ...file, scrypt: { ...file.scrypt, r: 1 } }, 'KEY_FILE_INVALID'],
      [{ ...file, scrypt: { ...file.scrypt, salt: 'c2FsdA==' } }, 'KEY_FILE_INVALID'],
      [{ ...file, format: 2 }, 'KEY_FILE_INVALID'],
      [{ ...file, sealed: 7 }, 'KEY_FILE_INVALID'],
    ];
    for (const [contents, code] of cases) {
      await writeFile(path, JSON.stringify(contents));
      expect((await failure(cheap().open())).code).toBe(code);
    }
  });

  it('is told from a plain key file, both ways', async () => {
    await localKeyFile({ path }).open();
    const plain = await failure(cheap().open());
    expect([plain.code, plain.message]).toEqual(['KEY_FILE_INVALID', expect.stringContaining('localKeyFile')]);
    await rm(path);
    await cheap().open();
    expect((await failure(localKeyFile({ path }).open())).code).toBe('KEY_FILE_INVALID');
  });

  it('must be closed to others, as a plain one must', async () => {
    await cheap().open();
    await chmod(path, 0o644);
    expect((await failure(cheap().open())).code).toBe('KEY_FILE_EXPOSED');
  });

  it.each([16, 23, 17.5])('is not made with logN %p', (logN) => {
    expect(() => passphraseKeyFile({ path, passphrase: PASSPHRASE, logN })).toThrow(
      expect.objectContaining({ code: 'KEY_PROVIDER_INVALID' }),
    );
  });
});
