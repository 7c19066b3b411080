import { resolve } from 'node:path';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { type KeyProvider, KeyProviderError } from './key-provider.js';
import { LocalKeyFile, type LocalKeyFileOptions } from './local-key-file.js';
import { HIGHEST_LOG_N, LOWEST_LOG_N, type PassphraseSource, PassphraseWrapping } from './passphrase-wrapping.js';

export interface PassphraseKeyFileOptions extends LocalKeyFileOptions {
  /** 15 characters at least where the file is made, or where to get it. Whoever has both the file and the passphrase has the keys. */
  readonly passphrase: PassphraseSource;
  /**
   * For a file that is made: the cost of each guess, as the binary logarithm of scrypt's N, 17–22; 17 by default (128 MiB, some tenths of a second). One more
   * doubles both.
   */
  readonly logN?: number;
}

/**
 * A local key file whose keys are sealed under a passphrase, for where the file may be copied but the passphrase is given by hand or by the platform. Everything
 * that holds for `localKeyFile` holds for it.
 *
 * `open()` throws a `KeyFileError` as that of `localKeyFile` does, and `KEY_FILE_LOCKED` when the passphrase is not the right one.
 * @throws KeyProviderError `KEY_PROVIDER_INVALID` when `logN` is out of range
 */
export function passphraseKeyFile(
  options: PassphraseKeyFileOptions,
  randomness: Randomness = cryptoRandomness,
): KeyProvider {
  const { path, passphrase, logN = LOWEST_LOG_N, create } = options;
  if (!Number.isInteger(logN) || logN < LOWEST_LOG_N || logN > HIGHEST_LOG_N) {
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      `passphrase key file ${path}`,
      `was given the logN ${String(logN)}: give ${LOWEST_LOG_N} to ${HIGHEST_LOG_N}.`,
    );
  }
  return new LocalKeyFile(resolve(path), create, randomness, new PassphraseWrapping(passphrase, logN, randomness));
}
