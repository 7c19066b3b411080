import { createSecretKey, type KeyObject, scrypt } from 'node:crypto';
import { KeyFileError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import { BOX_OVERHEAD_BYTES, KEY_BYTES, NONCE_BYTES, openBox, writeBox } from './aes-gcm.js';
import type { KeyFileWrapping } from './key-file-storage.js';

/*
 * A key file under a passphrase: `{ "format": 1, "scrypt": { "logN": 17, "r": 8, "p": 1, "salt": base64 }, "sealed": base64 }`. Sealed is the text of an ordinary
 * key file in a box (nonce, ciphertext, tag) of AES-256-GCM under scrypt(passphrase, salt); format, parameters and salt are its associated data.
 */

/**
 * The least that is accepted, also from a file: OWASP's first choice for scrypt, N = 2^17, r = 8, p = 1 (Password Storage Cheat Sheet), 128 MiB and some tenths of a
 * second for each guess. r and p are those that RFC 7914 recommends.
 */
export const LOWEST_LOG_N = 17;
/** 4 GiB a guess; more would keep the process from starting. */
export const HIGHEST_LOG_N = 22;
const BLOCK_SIZE = 8;
const PARALLELISM = 1;
const SALT_BYTES = 16;
/** NIST SP 800-63B-4, section 3.1.1.2, for a passphrase that stands alone. */
const SHORTEST_PASSPHRASE = 15;

export type PassphraseSource = string | (() => string | Promise<string>);

/** How a passphrase becomes a key of 32 bytes; tests put a cheap one here. */
export type DeriveKey = (passphrase: string, salt: Buffer, logN: number) => Promise<Buffer>;

interface Parameters {
  readonly logN: number;
  readonly salt: Buffer;
}

export class PassphraseWrapping implements KeyFileWrapping {
  /** The key of the salt it was last derived for: deriving is slow on purpose, and the file is read often. */
  #known: { readonly salt: Buffer; readonly logN: number; readonly key: KeyObject } | undefined;

  constructor(
    private readonly passphrase: PassphraseSource,
    private readonly logN: number,
    private readonly randomness: Randomness,
    private readonly derive: DeriveKey = scryptKey,
  ) {}

  async open(path: string, contents: Buffer): Promise<Buffer> {
    const parsed = parse(contents);
    if (typeof parsed === 'string') throw invalid(path, parsed);
    const key = await this.#key(parsed, await this.#ask());
    const opened = openBox(parsed.sealed, key, associatedData(parsed));
    if (opened !== undefined) return opened;
    this.#known = undefined;
    throw new KeyFileError(
      'KEY_FILE_LOCKED',
      `The key file ${path} does not open with this passphrase, or was changed. Give the passphrase it was made with, or restore it from its backup.`,
    );
  }

  async seal(path: string, plain: Buffer): Promise<Buffer> {
    const passphrase = await this.#ask();
    if ([...passphrase].length < SHORTEST_PASSPHRASE) {
      throw new KeyFileError(
        'KEY_FILE_LOCKED',
        `The passphrase for the key file ${path} has fewer than ${SHORTEST_PASSPHRASE} characters; nothing was written. Use several random words, or a random string.`,
      );
    }
    const { logN, salt } = this.#known ?? { logN: this.logN, salt: this.randomness.bytes(SALT_BYTES) };
    const key = await this.#key({ logN, salt }, passphrase);
    const sealed = Buffer.alloc(plain.length + BOX_OVERHEAD_BYTES);
    writeBox(sealed, 0, key, this.randomness.bytes(NONCE_BYTES), associatedData({ logN, salt }), plain);
    const parameters = { logN, r: BLOCK_SIZE, p: PARALLELISM, salt: salt.toString('base64') };
    const file = { format: 1, scrypt: parameters, sealed: sealed.toString('base64') };
    return Buffer.from(`${JSON.stringify(file, undefined, 2)}\n`);
  }

  close(): void {
    this.#known = undefined;
  }

  async #ask(): Promise<string> {
    const passphrase = typeof this.passphrase === 'string' ? this.passphrase : await this.passphrase();
    // The same characters are typed as different bytes on different machines.
    return passphrase.normalize('NFC');
  }

  async #key({ logN, salt }: Parameters, passphrase: string): Promise<KeyObject> {
    if (this.#known?.logN === logN && this.#known.salt.equals(salt)) return this.#known.key;
    const bytes = await this.derive(passphrase, salt, logN);
    const key = createSecretKey(bytes);
    bytes.fill(0);
    this.#known = { salt, logN, key };
    return key;
  }
}

/** scrypt (RFC 7914) with r = 8 and p = 1; needs 2^logN KiB of memory. */
export function scryptKey(passphrase: string, salt: Buffer, logN: number): Promise<Buffer> {
  const N = 2 ** logN;
  const options = { N, r: BLOCK_SIZE, p: PARALLELISM, maxmem: 2 * 128 * N * BLOCK_SIZE };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, KEY_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

function parse(contents: Buffer): (Parameters & { readonly sealed: Buffer }) | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(contents.toString('utf8'));
  } catch {
    return 'is not JSON';
  }
  const { format, scrypt: parameters, sealed } = fields(parsed);
  if (parameters === undefined)
    return 'is not under a passphrase. Open it with localKeyFile, or make one with passphraseKeyFile';
  const { logN, r, p, salt } = fields(parameters);
  if (format !== 1) return 'is of a format that is unknown; it may need a newer version of this library';
  if (typeof logN !== 'number' || !Number.isInteger(logN) || r !== BLOCK_SIZE || p !== PARALLELISM)
    return 'has parameters of scrypt other than whole `logN`, `r` 8 and `p` 1';
  if (logN < LOWEST_LOG_N || logN > HIGHEST_LOG_N)
    return `has \`logN\` ${logN}, which is not between ${LOWEST_LOG_N} and ${HIGHEST_LOG_N}`;
  const saltBytes = typeof salt === 'string' ? Buffer.from(salt, 'base64') : Buffer.alloc(0);
  if (saltBytes.length !== SALT_BYTES) return `has a \`salt\` that is not ${SALT_BYTES} bytes in base64`;
  if (typeof sealed !== 'string') return 'has nothing `sealed`';
  return { logN, salt: saltBytes, sealed: Buffer.from(sealed, 'base64') };
}

function associatedData({ logN, salt }: Parameters): Buffer {
  return Buffer.from(
    `nestjs-secrets passphrase key file 1 scrypt ${logN} ${BLOCK_SIZE} ${PARALLELISM} ${salt.toString('hex')}`,
  );
}

function invalid(path: string, what: string): KeyFileError {
  return new KeyFileError('KEY_FILE_INVALID', `The key file ${path} ${what}.`);
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
