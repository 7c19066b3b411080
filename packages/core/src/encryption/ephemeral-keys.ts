import { createSecretKey } from 'node:crypto';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { KEY_BYTES } from './aes-gcm.js';
import type { KeyProvider } from './key-provider.js';
import { MasterKeys } from './master-keys.js';

/**
 * A random master key that lives as long as the object returned: for tests, and for the memory store, whose data does not outlive the process
 * either. A durable store under it cannot be opened by the next process (`KEY_MISMATCH`). Opening and closing do nothing, so that several
 * instances in one test can share it.
 */
export function ephemeralKeys(randomness: Randomness = cryptoRandomness): KeyProvider {
  const key = randomness.bytes(KEY_BYTES);
  const id = `ephemeral:${randomness.bytes(16).toString('hex')}`;
  const keys = new MasterKeys(id, new Map([[1, createSecretKey(key)]]), randomness);
  key.fill(0);
  return {
    name: 'ephemeral keys',
    open: async () => {},
    close: async () => {},
    active: () => keys.active,
    wrap: (cmk, dataKey, associatedData) => keys.wrap(cmk, dataKey, associatedData),
    unwrap: (cmk, wrappedKey, associatedData) => keys.unwrap(cmk, wrappedKey, associatedData),
  };
}
