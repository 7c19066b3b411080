import {
  type CmkRef,
  isSecretsError,
  KeyMismatchError,
  KeyProviderError,
  KeyRefusedError,
  type Randomness,
  type RemoteKeyService,
} from '@nestjs-secrets/core';
import pkcs11 from 'pkcs11js';
import { hasCode, isPkcs11Error, unavailable } from './pkcs11-errors.js';
import { Pkcs11Token, type Pkcs11TokenOptions, type TokenSession } from './pkcs11-token.js';
import { destroyVersion, findKeys, makeVersion } from './token-keys.js';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const DATA_KEY_BYTES = 32;
const WRAPPED_BYTES = NONCE_BYTES + DATA_KEY_BYTES + TAG_BYTES;
const ATTEMPTS = 10;

export interface Pkcs11ServiceOptions extends Pkcs11TokenOptions {
  readonly id: string;
  readonly create: 'never' | 'if-missing';
}

/** Keys in a token: AES-256-GCM carried out by the token, with the associated data as its AAD. */
export class Pkcs11Service implements RemoteKeyService {
  readonly defaultKey: string;
  readonly #token: Pkcs11Token;
  /** Handles of keys, as of one connection. */
  #handles = new Map<string, pkcs11.Handle>();
  #handlesOf = 0;

  constructor(
    readonly name: string,
    private readonly options: Pkcs11ServiceOptions,
    private readonly randomness: Randomness,
  ) {
    this.defaultKey = options.id;
    this.#token = new Pkcs11Token(name, options);
  }

  async open(): Promise<void> {
    this.#token.open();
    const keys = await this.list();
    if (keys.some(({ id }) => id === this.defaultKey)) return;
    if (this.options.create === 'if-missing') {
      await this.make(this.defaultKey);
      return;
    }
    throw new KeyRefusedError(
      this.name,
      `has no key ${this.defaultKey}. If this application has stored secrets before, it is the wrong token, or its keys are gone: restore it from the backup of its maker. Otherwise make one: open the provider once with create: 'if-missing'.`,
    );
  }

  async close(): Promise<void> {
    this.#token.close();
    this.#handles.clear();
  }

  async list(): Promise<readonly CmkRef[]> {
    const keys = await this.#using(async (session) => findKeys(session));
    const usable = keys.filter(({ isUsable }) => isUsable);
    const exposed = usable.find(({ isExposed }) => isExposed);
    if (exposed !== undefined) {
      throw new KeyRefusedError(
        this.name,
        `holds the key ${print(exposed.ref)} in a way that lets it leave the token (it must be CKA_SENSITIVE and not CKA_EXTRACTABLE). Make a new version, and consider this one known.`,
      );
    }
    const refs = usable.map(({ ref }) => ref);
    const twice = refs.find((ref, index) => refs.findIndex((other) => print(other) === print(ref)) !== index);
    if (twice !== undefined) {
      throw new KeyRefusedError(
        this.name,
        `holds two keys that are both ${print(twice)}. Delete the one that was put there last.`,
      );
    }
    return refs;
  }

  async make(id: string = `pkcs11:${this.randomness.bytes(16).toString('hex')}`): Promise<CmkRef> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const made = await this.#using((session) => makeVersion(session, id));
      if (made !== undefined) return made;
    }
    throw new KeyRefusedError(
      this.name,
      `could not make a version of ${id}: others were making one each time. Try again.`,
    );
  }

  async destroy(cmk: CmkRef): Promise<void> {
    await this.#using(async (session) => destroyVersion(session, cmk));
    this.#handles.delete(print(cmk));
  }

  async wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Promise<Uint8Array> {
    if (dataKey.length !== DATA_KEY_BYTES) {
      throw new KeyProviderError('KEY_PROVIDER_INVALID', this.name, `wraps data keys of ${DATA_KEY_BYTES} bytes only.`);
    }
    return this.#using((session) => this.#encrypt(session, cmk, dataKey, associatedData));
  }

  async unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Promise<Buffer> {
    if (wrappedKey.length !== WRAPPED_BYTES) throw this.#mismatch(cmk);
    let failure: unknown;
    try {
      return await this.#token.use((session) => this.#decrypt(session, cmk, wrappedKey, associatedData));
    } catch (error) {
      if (isSecretsError(error)) throw error;
      failure = error;
    }
    const saysSo = hasCode(
      failure,
      pkcs11.CKR_ENCRYPTED_DATA_INVALID,
      pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE,
      CKR_AEAD_DECRYPT_FAILED,
    );
    if (saysSo || (await this.#works(cmk, failure))) throw this.#mismatch(cmk);
    this.#token.disconnect();
    throw unavailable(this.name, failure);
  }

  /**
   * Whether the key works. Many tokens tell of a wrong tag by CKR_GENERAL_ERROR, which also stands for any trouble of their own: when the key opens what it has
   * just closed, it was the wrapped key that was wrong.
   */
  async #works(cmk: CmkRef, failure: unknown): Promise<boolean> {
    if (!hasCode(failure, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DATA_INVALID)) return false;
    const sample = Buffer.alloc(DATA_KEY_BYTES, 1);
    return this.#using(async (session) => {
      const wrapped = await this.#encrypt(session, cmk, sample, Buffer.alloc(1));
      return sample.equals(await this.#decrypt(session, cmk, wrapped, Buffer.alloc(1)));
    });
  }

  /** What PKCS#11 answers to anything but unwrapping is about the token, or the way to it. */
  async #using<T>(work: (session: TokenSession) => Promise<T>): Promise<T> {
    try {
      return await this.#token.use(work);
    } catch (error) {
      if (!isPkcs11Error(error)) throw error;
      this.#token.disconnect();
      throw unavailable(this.name, error);
    }
  }

  async #encrypt(session: TokenSession, cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Promise<Buffer> {
    const { module, handle } = session;
    const nonce = this.randomness.bytes(NONCE_BYTES);
    // Copies, since a thread may still read them when the caller has given up and zeroed its own.
    const plaintext = Buffer.alloc(DATA_KEY_BYTES);
    plaintext.set(dataKey);
    try {
      module.C_EncryptInit(handle, gcm(nonce, Buffer.from(associatedData)), this.#handleOf(session, cmk));
      const sealed = await module.C_EncryptAsync(handle, plaintext, Buffer.alloc(DATA_KEY_BYTES + TAG_BYTES));
      return Buffer.concat([nonce, sealed]);
    } finally {
      plaintext.fill(0);
    }
  }

  async #decrypt(
    session: TokenSession,
    cmk: CmkRef,
    wrappedKey: Uint8Array,
    associatedData: Uint8Array,
  ): Promise<Buffer> {
    const { module, handle } = session;
    const wrapped = Buffer.from(wrappedKey);
    const nonce = Buffer.from(wrapped.subarray(0, NONCE_BYTES));
    const sealed = Buffer.from(wrapped.subarray(NONCE_BYTES));
    module.C_DecryptInit(handle, gcm(nonce, Buffer.from(associatedData)), this.#handleOf(session, cmk));
    // Some tokens want room for the tag in the answer as well.
    const answer = Buffer.alloc(DATA_KEY_BYTES + TAG_BYTES);
    const plaintext = await module.C_DecryptAsync(handle, sealed, answer);
    const dataKey = Buffer.alloc(plaintext.length);
    dataKey.set(plaintext);
    answer.fill(0);
    return dataKey;
  }

  #handleOf(session: TokenSession, cmk: CmkRef): pkcs11.Handle {
    if (this.#handlesOf !== session.connection) {
      this.#handles = new Map();
      this.#handlesOf = session.connection;
    }
    const name = print(cmk);
    let handle = this.#handles.get(name);
    if (handle === undefined) {
      const same = findKeys(session).filter(({ ref, isUsable }) => isUsable && print(ref) === name);
      handle = same.length === 1 ? same[0]?.handle : undefined;
      if (handle === undefined) throw new KeyMismatchError(`The token ${this.options.token} has no key ${name}.`);
      this.#handles.set(name, handle);
    }
    return handle;
  }

  #mismatch(cmk: CmkRef): KeyMismatchError {
    return new KeyMismatchError(
      `A data key does not open under key ${print(cmk)} in the token ${this.options.token}: the record was changed, or moved here from another store, secret or version, or was wrapped in another token. Restore the record from a backup, or use the token it was wrapped in.`,
    );
  }
}

/** Of PKCS#11 3.0; the binding has no name for it. */
const CKR_AEAD_DECRYPT_FAILED = 0x42;

function gcm(iv: Buffer, aad: Buffer): pkcs11.Mechanism {
  const parameter = { type: pkcs11.CK_PARAMS_AES_GCM, iv, aad, ivBits: iv.length * 8, tagBits: TAG_BYTES * 8 };
  return { mechanism: pkcs11.CKM_AES_GCM, parameter };
}

function print({ id, version }: CmkRef): string {
  return `${id} version ${version}`;
}
