import { CorruptRecordError, isSecretsError } from '../foundation/errors.js';
import type { EnvelopeContext } from '../encryption/associated-data.js';
import type { CmkRef } from '../encryption/key-provider.js';
import type { Keyring } from '../encryption/keyring.js';
import type { KeyRegister } from '../encryption/keys/key-register.js';
import type { StoreCondition, StoreDriver, StoreEntry, StoreWrite } from '../store/store-driver.js';

export const VALUE_PREFIX = 'value/';

/** A write with what must hold in its commit: a sealed value goes in only as long as the key it was sealed under is the active one. */
export interface GuardedWrite extends StoreWrite {
  readonly conditions?: readonly StoreCondition[];
}

/** An entry of the store that is an envelope as a whole. */
export interface SealedEntry {
  readonly key: string;
  readonly context: EnvelopeContext;
}

export function valueKey(name: string, versionId: string): string {
  // A colon can stand in neither part, so no two versions share a key.
  return `${VALUE_PREFIX}${name}:${versionId}`;
}

/** The write that destroys the value of a version. */
export function versionRemoval(name: string, versionId: string): StoreWrite {
  return { key: valueKey(name, versionId), value: null };
}

/** Which version of which secret an entry holds the value of; undefined for an entry that is no value. */
export function valueContext(key: string): EnvelopeContext | undefined {
  const colon = key.lastIndexOf(':');
  if (!key.startsWith(VALUE_PREFIX) || colon < 0) return undefined;
  return { secretName: key.slice(VALUE_PREFIX.length, colon), versionId: key.slice(colon + 1) };
}

/** What of the store is sealed: each value in an envelope of its own, under whatever version of a master key is active then. */
export class SealedValues {
  constructor(
    private readonly store: StoreDriver,
    private readonly keyring: Keyring,
    private readonly keys: KeyRegister,
  ) {}

  /**
   * The write that stores a plaintext, sealed, under a key, the default one unless its id is given.
   * @throws KeyNotFoundError, KeyInactiveError, KeyExhaustedError
   */
  async seal(entry: SealedEntry, plaintext: Uint8Array, keyId?: string): Promise<GuardedWrite> {
    const { cmk, condition } = await this.keys.forSealing(keyId);
    const value = await this.keyring.seal(entry.context, plaintext, cmk);
    return { key: entry.key, value, conditions: [condition] };
  }

  /**
   * The plaintext of a version, in a buffer that the caller zeroes.
   * @throws CorruptRecordError when it is missing or does not open, or not as what it stands for
   * @throws KeyDisabledError, KeyDestroyedError
   */
  async open(secretName: string, versionId: string): Promise<Buffer> {
    const entry = await this.store.get(valueKey(secretName, versionId));
    if (entry !== undefined) return this.openEntry({ secretName, versionId }, entry);
    throw new CorruptRecordError(`Version ${versionId} of ${secretName}`, 'its value is missing', secretName);
  }

  /** The plaintext of an entry that was read already; see `open`. */
  async openEntry(context: EnvelopeContext, entry: StoreEntry): Promise<Buffer> {
    try {
      return await this.keyring.open(context, entry.value, (cmk) => this.keys.admit(cmk));
    } catch (error) {
      // The keys have opened this store, so what does not open under them is not what was put here.
      if (!isSecretsError(error, 'KEY_MISMATCH') && !isSecretsError(error, 'RECORD_CORRUPT')) throw error;
      const { secretName, versionId } = context;
      throw new CorruptRecordError(`Version ${versionId} of ${secretName}`, error.message, secretName);
    }
  }

  /** The key version an entry says it is sealed under; undefined when it cannot be read. */
  sealedUnder(context: EnvelopeContext, entry: StoreEntry): CmkRef | undefined {
    try {
      return this.keyring.sealedUnder(context, entry.value);
    } catch {
      return undefined;
    }
  }

  /**
   * The write that seals an entry anew, with a fresh data key, when it is not under the active version of its key; undefined when it is. Goes in only on
   * condition that the entry is still there as it was read.
   * @throws as `openEntry`
   */
  async resealed(context: EnvelopeContext, entry: StoreEntry, keyId?: string): Promise<GuardedWrite | undefined> {
    const wanted = await this.keys.activeVersion(keyId);
    const under = this.sealedUnder(context, entry);
    if (under?.id === wanted.id && under.version === wanted.version) return undefined;
    const plaintext = await this.openEntry(context, entry);
    try {
      const write = await this.seal({ key: entry.key, context }, plaintext, keyId);
      const unchanged = { key: entry.key, revision: entry.revision };
      return { ...write, conditions: [...(write.conditions ?? []), unchanged] };
    } finally {
      plaintext.fill(0);
    }
  }
}
