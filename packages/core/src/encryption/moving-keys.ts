import { KeyUnsupportedError } from './keys/key-errors.js';
import { type CmkRef, type KeyProvider, KeyProviderError, type KeyProviderStatus } from './key-provider.js';

export interface MovingKeysOptions {
  /** The provider that is left. */
  readonly from: KeyProvider;
  /** The provider that is moved to. Its keys have other ids. */
  readonly to: KeyProvider;
}

/**
 * The keys of two providers, while one makes way for the other: each opens and seals what is under its own keys. What is there stays under the old ones until an
 * operator calls `SecretsManager.keys.move()`, in any one process. See docs/moving.md.
 */
export function movingKeys({ from, to }: MovingKeysOptions): KeyProvider {
  return new MovingKeys(from, to);
}

class MovingKeys implements KeyProvider {
  readonly name: string;
  readonly moving: MovingKeysOptions;
  readonly make: KeyProvider['make'];
  readonly destroy: KeyProvider['destroy'];
  #fromIds: ReadonlySet<string> = new Set();
  #toIds: ReadonlySet<string> = new Set();
  #looking: Promise<readonly CmkRef[]> | undefined;

  constructor(
    private readonly from: KeyProvider,
    private readonly to: KeyProvider,
  ) {
    this.name = `${from.name}, moving to ${to.name}`;
    this.moving = { from, to };
    if (from === to) throw this.#invalid('was given one provider twice.');
    if (from.make !== undefined || to.make !== undefined) this.make = (id) => this.#make(id);
    // Where one of them cannot destroy keys, nobody may think that they were.
    if (from.destroy !== undefined && to.destroy !== undefined) this.destroy = (cmk) => this.#destroy(cmk);
  }

  async open(): Promise<void> {
    await this.from.open();
    try {
      await this.to.open();
      await this.#look();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.from.close();
    await this.to.close();
  }

  /** For a store that is new: a process that has but the old provider must be able to open it. */
  active(): CmkRef | Promise<CmkRef> {
    return this.from.active();
  }

  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Uint8Array | Promise<Uint8Array> {
    const owner = this.#ownerOf(cmk.id);
    if (owner !== undefined) return owner.wrap(cmk, dataKey, associatedData);
    return this.#found(cmk.id).then((found) => found.wrap(cmk, dataKey, associatedData));
  }

  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer> {
    const owner = this.#ownerOf(cmk.id);
    if (owner !== undefined) return owner.unwrap(cmk, wrappedKey, associatedData);
    return this.#found(cmk.id).then((found) => found.unwrap(cmk, wrappedKey, associatedData));
  }

  list(): Promise<readonly CmkRef[]> {
    return this.#look();
  }

  status(): KeyProviderStatus {
    const old = this.from.status?.() ?? { state: 'available' };
    return old.state === 'away' ? old : (this.to.status?.() ?? { state: 'available' });
  }

  /** A new key belongs where all of them will be. */
  async #make(id: string | undefined): Promise<CmkRef> {
    const owner = id === undefined ? this.to : await this.#found(id);
    if (owner.make === undefined) throw new KeyUnsupportedError(owner.name, 'makes no keys itself.');
    return owner.make(id);
  }

  async #destroy(cmk: CmkRef): Promise<void> {
    await (await this.#found(cmk.id)).destroy?.(cmk);
  }

  #ownerOf(id: string): KeyProvider | undefined {
    if (this.#fromIds.has(id)) return this.from;
    return this.#toIds.has(id) ? this.to : undefined;
  }

  /** Whoever has a key; it may be one that another process has just made. One that nobody has is refused by the new provider. */
  async #found(id: string): Promise<KeyProvider> {
    const known = this.#ownerOf(id);
    if (known !== undefined) return known;
    await this.#look();
    return this.#ownerOf(id) ?? this.to;
  }

  #look(): Promise<readonly CmkRef[]> {
    this.#looking ??= this.#lookOnce().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #lookOnce(): Promise<readonly CmkRef[]> {
    const [here, there] = await Promise.all([keysOf(this.from), keysOf(this.to)]);
    const [fromIds, toIds] = [new Set(here.map(({ id }) => id)), new Set(there.map(({ id }) => id))];
    const both = [...fromIds].filter((id) => toIds.has(id));
    if (both.length > 0)
      throw this.#invalid(
        `has the key ${both.join(', ')} on both sides, and could not tell what is sealed under which. Give the key another id in the new provider.`,
      );
    [this.#fromIds, this.#toIds] = [fromIds, toIds];
    return [...here, ...there];
  }

  #invalid(message: string): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_INVALID', this.name, message);
  }
}

/** Every key version of a provider, as far as it tells. */
export async function keysOf(provider: KeyProvider): Promise<readonly CmkRef[]> {
  return (await provider.list?.()) ?? [await provider.active()];
}
