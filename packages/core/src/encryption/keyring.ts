import { hash, timingSafeEqual } from 'node:crypto';
import { KeyMismatchError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import { KEY_BYTES, NONCE_BYTES, openBox, writeBox } from './aes-gcm.js';
import { AssociatedData, type EnvelopeContext } from './associated-data.js';
import {
  beginEnvelope,
  COMMITMENT_BYTES,
  corruptEnvelope,
  FORMAT,
  isWrappedKey,
  readEnvelope,
  SUITE_AES_256_GCM,
} from './envelope.js';
import { type CmkRef, isCmkRef, type KeyProvider, KeyProviderError } from './key-provider.js';

/**
 * Seals values into envelopes and opens them again: a fresh data key for each, wrapped by the key provider, bound to the store, the secret
 * and the version. docs/envelope.md describes the bytes and what they protect from.
 */
export class Keyring {
  readonly #provider: KeyProvider;
  readonly #randomness: Randomness;
  readonly #associatedData: AssociatedData;
  readonly #lowestSuite: number;

  /** Envelopes of a suite below `lowestSuite` are refused; 1, the lowest there is, by default. */
  constructor(
    provider: KeyProvider,
    /** Of the store that everything is bound to. */
    readonly storeId: string,
    randomness: Randomness,
    lowestSuite: number = SUITE_AES_256_GCM,
  ) {
    this.#provider = provider;
    this.#randomness = randomness;
    this.#associatedData = new AssociatedData(FORMAT, SUITE_AES_256_GCM, storeId);
    this.#lowestSuite = lowestSuite;
  }

  /**
   * The plaintext, sealed for this place and no other, under the given key version; without one, under the provider's active one.
   * @throws KeyProviderError when the provider answers what its port does not allow; and whatever the provider throws
   */
  async seal(context: EnvelopeContext, plaintext: Uint8Array, under?: CmkRef): Promise<Buffer> {
    const active = under ?? this.#provider.active();
    const cmk = isPromise(active) ? await active : active;
    this.#check(isCmkRef(cmk), 'a key id or version that is out of range');
    const associatedData = this.#associatedData.of(context, cmk);
    const fresh = this.#randomness.bytes(KEY_BYTES + NONCE_BYTES);
    const dataKey = fresh.subarray(0, KEY_BYTES);
    try {
      const wrapping = this.#provider.wrap(cmk, dataKey, associatedData);
      const wrappedKey = isPromise(wrapping) ? await wrapping : wrapping;
      this.#check(isWrappedKey(wrappedKey), `a wrapped key of ${wrappedKey.length} bytes`);
      const { envelope, offset } = beginEnvelope(SUITE_AES_256_GCM, cmk, wrappedKey, plaintext.length);
      const derived = deriveKeys(dataKey, associatedData);
      try {
        envelope.set(derived.commitment, offset);
        writeBox(
          envelope,
          offset + COMMITMENT_BYTES,
          derived.contentKey,
          fresh.subarray(KEY_BYTES),
          associatedData,
          plaintext,
        );
      } finally {
        derived.contentKey.fill(0);
      }
      return envelope;
    } finally {
      fresh.fill(0);
    }
  }

  /**
   * What was sealed for this place, in a buffer the caller owns and zeroes. `admit` may refuse the key version before it is used, by throwing.
   * @throws CorruptRecordError when the envelope is malformed or was changed
   * @throws KeyMismatchError when its data key does not open: another master key, or an envelope of another store, secret or version
   */
  async open(
    context: EnvelopeContext,
    envelope: Uint8Array,
    admit?: (cmk: CmkRef) => void | Promise<void>,
  ): Promise<Buffer> {
    const { cmk, wrappedKey, commitment, box } = readEnvelope(envelope, this.#lowestSuite, context);
    const admitting = admit?.(cmk);
    if (admitting !== undefined) await admitting;
    const associatedData = this.#associatedData.of(context, cmk);
    const unwrapping = this.#provider.unwrap(cmk, wrappedKey, associatedData);
    const dataKey = isPromise(unwrapping) ? await unwrapping : unwrapping;
    try {
      if (dataKey.length !== KEY_BYTES) throw foreignDataKey(cmk, dataKey.length);
      const derived = deriveKeys(dataKey, associatedData);
      try {
        if (!timingSafeEqual(derived.commitment, commitment))
          throw corruptEnvelope(context, 'it is not committed to its key');
        const plaintext = openBox(box, derived.contentKey, associatedData);
        if (plaintext === undefined) throw corruptEnvelope(context, 'it was changed after it was sealed');
        return plaintext;
      } finally {
        derived.contentKey.fill(0);
      }
    } finally {
      dataKey.fill(0);
    }
  }

  /**
   * The key version an envelope says it was sealed under; nothing of it is verified.
   * @throws CorruptRecordError when it is none
   */
  sealedUnder(context: EnvelopeContext, envelope: Uint8Array): CmkRef {
    return readEnvelope(envelope, this.#lowestSuite, context).cmk;
  }

  #check(holds: boolean, what: string): void {
    if (holds) return;
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      this.#provider.name,
      `gave ${what}; nothing was sealed. This is a fault in the provider.`,
    );
  }
}

/**
 * One SHA-512 over data key and associated data, cut in half: the key that encrypts, and the commitment that stands in the envelope. Finding a
 * second data key or place for an envelope takes a collision of the second half; see Albertini et al., "How to Abuse and Fix Authenticated Encryption
 * Without Key Commitment", USENIX Security 2022.
 */
function deriveKeys(dataKey: Uint8Array, associatedData: Uint8Array): { contentKey: Buffer; commitment: Buffer } {
  // The shared slab that allocUnsafe may take this from holds the key only until fill(0), with no await between.
  const input = Buffer.allocUnsafe(dataKey.length + associatedData.length);
  input.set(dataKey);
  input.set(associatedData, dataKey.length);
  const digest = hash('sha512', input, 'buffer');
  input.fill(0);
  return { contentKey: digest.subarray(0, KEY_BYTES), commitment: digest.subarray(KEY_BYTES) };
}

function foreignDataKey(cmk: CmkRef, length: number): KeyMismatchError {
  return new KeyMismatchError(
    `Key ${cmk.id} version ${cmk.version} unwrapped ${length} bytes where a data key has ${KEY_BYTES}: it was wrapped for something else.`,
  );
}

// An await costs a turn of the microtask queue, several times within one open; most providers answer at once.
function isPromise<T extends object>(answer: T | Promise<T>): answer is Promise<T> {
  return 'then' in answer;
}
