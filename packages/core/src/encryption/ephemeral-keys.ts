import { createSecretKey, type KeyObject } from 'node:crypto';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { KEY_BYTES } from './aes-gcm.js';
import type { KeyProvider } from './key-provider.js';
import { KeySet } from './key-set.js';

/**
 * Random master keys that live as long as the object returned: for tests, and for the memory store, whose data does not outlive the process
 * either. A durable store under it cannot be opened by the next process (`KEY_MISMATCH`). Opening and closing do nothing, so that several
 * instances in one test can share it.
 */
export function ephemeralKeys(randomness: Randomness = cryptoRandomness): KeyProvider {
  const keys = new Map<string, Map<number, KeyObject>>();
  const nextVersions = new Map<string, number>();
  const add = (id: string): { id: string; version: number } => {
    const version = nextVersions.get(id) ?? 1;
    const key = randomness.bytes(KEY_BYTES);
    keys.set(id, new Map(keys.get(id)).set(version, createSecretKey(key)));
    key.fill(0);
    nextVersions.set(id, version + 1);
    return { id, version };
  };
  const newId = (): string => `ephemeral:${randomness.bytes(16).toString('hex')}`;
  add(newId());
  let set = new KeySet(keys, randomness);
  return {
    name: 'ephemeral keys',
    open: async () => {},
    close: async () => {},
    active: () => set.active,
    wrap: (cmk, dataKey, associatedData) => set.wrap(cmk, dataKey, associatedData),
    unwrap: (cmk, wrappedKey, associatedData) => set.unwrap(cmk, wrappedKey, associatedData),
    list: async () => set.list(),
    make: async (id = newId()) => {
      const made = add(id);
      set = new KeySet(keys, randomness);
      return made;
    },
    destroy: async ({ id, version }) => {
      const versions = new Map(keys.get(id));
      versions.delete(version);
      if (versions.size > 0) keys.set(id, versions);
      else keys.delete(id);
      set = new KeySet(keys, randomness);
    },
  };
}
