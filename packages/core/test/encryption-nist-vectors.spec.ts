import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { NONCE_BYTES, openBox, writeBox } from '../src/encryption/aes-gcm.js';

/** Where the Debian package puts the files of NIST's Cryptographic Algorithm Validation Program. */
const FOLDER = '/usr/lib/python3/dist-packages/cryptography_vectors/ciphers/AES/GCM';
const DEBIAN_PACKAGE = 'python3-cryptography-vectors';
const TAG_BYTES = 16;

interface Vector {
  readonly count: string;
  readonly key: Buffer;
  readonly nonce: Buffer;
  readonly plaintext: Buffer;
  readonly associatedData: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
  readonly fails: boolean;
}

/** The vectors of a file that a box can express: nonces of 96 bits and whole tags. */
function vectorsOf(file: string): Vector[] {
  const vectors: Vector[] = [];
  let section = new Map<string, string>();
  for (const block of readFileSync(join(FOLDER, file), 'latin1').split(/\r?\n\r?\n/)) {
    const lengths = [...block.matchAll(/^\[(\w+) = (\d+)\]/gm)];
    if (lengths.length > 0) section = new Map(lengths.map(([, name = '', length = '']) => [name, length]));
    const fields = new Map([...block.matchAll(/^(\w+) = ?(\w*)/gm)].map(([, name = '', value = '']) => [name, value]));
    if (!fields.has('Count') || section.get('IVlen') !== '96' || section.get('Taglen') !== '128') continue;
    const bytes = (name: string): Buffer => Buffer.from(fields.get(name) ?? '', 'hex');
    vectors.push({
      count: `PTlen ${section.get('PTlen')}, AADlen ${section.get('AADlen')}, ${fields.get('Count')}`,
      key: bytes('Key'),
      nonce: bytes('IV'),
      plaintext: bytes('PT'),
      associatedData: bytes('AAD'),
      ciphertext: bytes('CT'),
      tag: bytes('Tag'),
      fails: /^FAIL/m.test(block),
    });
  }
  return vectors;
}

const boxOf = ({ nonce, ciphertext, tag }: Vector): Buffer => Buffer.concat([nonce, ciphertext, tag]);

const advice = `the vectors of NIST are missing: install the Debian package ${DEBIAN_PACKAGE}`;
const isThere = existsSync(FOLDER);
const isRequired = process.env['REQUIRE_SERVERS'] === '1' || process.env['CI'] === 'true';
if (!isThere && !isRequired) process.stderr.write(`SKIPPED vectors of NIST: ${advice}.\n`);

(isThere || isRequired ? describe : describe.skip)(
  'vectors of NIST for AES-256-GCM (CAVP), through our own sealing',
  () => {
    it('are there', () => {
      if (!isThere) throw new Error(advice);
      expect(vectorsOf('gcmEncryptExtIV256.rsp')).toHaveLength(375);
      expect(vectorsOf('gcmDecrypt256.rsp')).toHaveLength(375);
    });

    it('seal to what they say, byte for byte', () => {
      for (const vector of vectorsOf('gcmEncryptExtIV256.rsp')) {
        const { key, nonce, plaintext, associatedData, count } = vector;
        const box = Buffer.alloc(NONCE_BYTES + plaintext.length + TAG_BYTES);
        writeBox(box, 0, key, nonce, associatedData, plaintext);
        expect([count, box.toString('hex')]).toEqual([count, boxOf(vector).toString('hex')]);
      }
    });

    it('open to what they say, and not at all where they say so', () => {
      let failures = 0;
      for (const vector of vectorsOf('gcmDecrypt256.rsp')) {
        const { key, plaintext, associatedData, count, fails } = vector;
        const opened = openBox(boxOf(vector), key, associatedData);
        expect([count, opened?.toString('hex')]).toEqual([count, fails ? undefined : plaintext.toString('hex')]);
        if (fails) failures += 1;
      }
      expect(failures).toBeGreaterThan(100);
    });

    it('do not open with a tag cut short, which GCM itself would allow', () => {
      for (const vector of vectorsOf('gcmEncryptExtIV256.rsp')) {
        const box = boxOf(vector);
        for (const length of [4, 8, 12, 15]) {
          expect(
            openBox(box.subarray(0, box.length - TAG_BYTES + length), vector.key, vector.associatedData),
          ).toBeUndefined();
        }
      }
    });
  },
);
