import { SecretsError } from '../foundation/errors.js';
import type { StoreCommit, StoreListOptions } from './store-driver.js';

/** The longest key a store takes, in characters (which are bytes: keys are ASCII). */
export const STORE_KEY_LIMIT = 512;
/** The largest value a store takes, in bytes. */
export const STORE_VALUE_LIMIT = 1_048_576;
/** The most entries one `list` returns. */
export const STORE_LIST_LIMIT = 1000;

/** `STORE_REQUEST_INVALID`: a call outside the limits of the store port. A mistake of the caller; nothing was read or written. */
export class InvalidStoreRequestError extends SecretsError {
  constructor(message: string) {
    super('STORE_REQUEST_INVALID', message);
  }
}

/** `STORE_OPTIONS_INVALID`: something that a store was given to connect with, or an option, that it cannot work with. */
export class StoreOptionsError extends SecretsError {
  constructor(message: string) {
    super('STORE_OPTIONS_INVALID', message);
  }
}

/**
 * For drivers to call first in `get`.
 * @throws InvalidStoreRequestError
 */
export function checkKey(key: string): void {
  if (key.length === 0) throw new InvalidStoreRequestError('A store key must not be empty.');
  checkKeyCharacters('key', key);
}

/**
 * For drivers to call first in `list`.
 * @throws InvalidStoreRequestError
 */
export function checkList(options: StoreListOptions): void {
  checkKeyCharacters('prefix', options.prefix);
  if (options.after !== undefined) checkKeyCharacters('cursor', options.after);
  if (!Number.isInteger(options.limit) || options.limit < 1 || options.limit > STORE_LIST_LIMIT) {
    throw new InvalidStoreRequestError(
      `list takes a limit of 1 to ${STORE_LIST_LIMIT} entries, not ${options.limit}: fetch more page by page, with \`after\` set to the last key seen.`,
    );
  }
}

/**
 * For drivers to call first in `commit`.
 * @throws InvalidStoreRequestError
 */
export function checkCommit(commit: StoreCommit): void {
  for (const condition of commit.conditions) {
    checkKey(condition.key);
    if (!Number.isSafeInteger(condition.revision) || condition.revision < 0) {
      throw new InvalidStoreRequestError(
        `The condition on ${condition.key} names the revision ${condition.revision}: use that of an entry, or 0 for "no such entry".`,
      );
    }
  }
  const written = new Set<string>();
  for (const write of commit.writes) {
    checkKey(write.key);
    if (written.has(write.key)) {
      throw new InvalidStoreRequestError(`A commit writes ${write.key} twice: leave only the write that shall remain.`);
    }
    written.add(write.key);
    if (write.value !== null) checkValue(write.key, write.value);
  }
}

function checkValue(key: string, value: Uint8Array): void {
  if (!(value instanceof Uint8Array)) {
    throw new InvalidStoreRequestError(`The value for ${key} is not a Uint8Array: encode it first.`);
  }
  if (value.byteLength > STORE_VALUE_LIMIT) {
    throw new InvalidStoreRequestError(
      `The value for ${key} has ${value.byteLength} bytes; a store holds at most ${STORE_VALUE_LIMIT} under one key.`,
    );
  }
}

function checkKeyCharacters(what: string, text: string): void {
  if (text.length <= STORE_KEY_LIMIT && /^[!-~]*$/.test(text)) return;
  throw new InvalidStoreRequestError(
    `${JSON.stringify(text.slice(0, 64))} is not a store ${what}: use at most ${STORE_KEY_LIMIT} printable ASCII characters without the space.`,
  );
}
