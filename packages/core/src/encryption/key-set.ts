import type { KeyObject } from 'node:crypto';
import { KeyMismatchError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { CmkRef } from './key-provider.js';
import { MasterKeys } from './master-keys.js';

/** Several master keys, each with its versions, held in this process. The first one is the default key. */
export class KeySet {
  readonly active: CmkRef;
  readonly #keys: ReadonlyMap<string, MasterKeys>;
  readonly #refs: readonly CmkRef[];

  /** By key id, then by version; at least one key, each with at least one version. */
  constructor(keys: ReadonlyMap<string, ReadonlyMap<number, KeyObject>>, randomness: Randomness) {
    this.#keys = new Map([...keys].map(([id, versions]) => [id, new MasterKeys(id, versions, randomness)]));
    this.#refs = [...keys].flatMap(([id, versions]) => [...versions.keys()].map((version) => ({ id, version })));
    const [first] = this.#keys.values();
    if (first === undefined) throw new KeyMismatchError('There is no master key at all.');
    this.active = first.active;
  }

  list(): readonly CmkRef[] {
    return this.#refs;
  }

  has(cmk: CmkRef): boolean {
    return this.#refs.some(({ id, version }) => id === cmk.id && version === cmk.version);
  }

  /** @throws KeyMismatchError */
  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Buffer {
    return this.#key(cmk).wrap(cmk, dataKey, associatedData);
  }

  /** @throws KeyMismatchError */
  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer {
    return this.#key(cmk).unwrap(cmk, wrappedKey, associatedData);
  }

  /** The key of that id, or the default one, which then says that it is another. */
  #key({ id }: CmkRef): MasterKeys {
    const key = this.#keys.get(id) ?? this.#keys.get(this.active.id);
    if (key === undefined) throw new KeyMismatchError(`There is no master key ${id} here.`);
    return key;
  }
}
