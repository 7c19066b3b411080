import type { KeyObject } from 'node:crypto';
import { KeyMismatchError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import { BOX_OVERHEAD_BYTES, NONCE_BYTES, openBox, writeBox } from './aes-gcm.js';
import type { CmkRef } from './key-provider.js';

/**
 * The versions of one master key, held in this process: AES-256-GCM with a random nonce for each wrap. NIST SP 800-38D allows 2^32 of those
 * under one version.
 */
export class MasterKeys {
  readonly active: CmkRef;
  readonly #keys: ReadonlyMap<number, KeyObject>;
  readonly #randomness: Randomness;

  /** `keys` by version, at least one; the highest version is the active one. */
  constructor(id: string, keys: ReadonlyMap<number, KeyObject>, randomness: Randomness) {
    this.active = { id, version: Math.max(...keys.keys()) };
    this.#keys = keys;
    this.#randomness = randomness;
  }

  /** @throws KeyMismatchError */
  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Buffer {
    const wrapped = Buffer.alloc(dataKey.length + BOX_OVERHEAD_BYTES);
    writeBox(wrapped, 0, this.#key(cmk), this.#randomness.bytes(NONCE_BYTES), associatedData, dataKey);
    return wrapped;
  }

  /** @throws KeyMismatchError */
  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer {
    const box = Buffer.from(wrappedKey.buffer, wrappedKey.byteOffset, wrappedKey.byteLength);
    const dataKey = openBox(box, this.#key(cmk), associatedData);
    if (dataKey !== undefined) return dataKey;
    throw new KeyMismatchError(
      `A data key does not open under key ${cmk.id} version ${cmk.version}: the record was changed, or moved here from another store, secret or version, or this is another key of the same id. Restore the record, or the key, from a backup.`,
    );
  }

  #key(cmk: CmkRef): KeyObject {
    const key = cmk.id === this.active.id ? this.#keys.get(cmk.version) : undefined;
    if (key !== undefined) return key;
    throw new KeyMismatchError(
      `The data was sealed under key ${cmk.id} version ${cmk.version}; the key here is ${this.active.id}, versions ${[...this.#keys.keys()].join(', ')}. Use the key the store was sealed with: restore it from a backup, or point to the right one.`,
    );
  }
}
