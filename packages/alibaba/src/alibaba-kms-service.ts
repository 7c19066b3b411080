import {
  type CmkRef,
  encryptionContext,
  KeyMismatchError,
  KeyProviderError,
  type RemoteKeyNames,
  type RemoteKeyService,
} from '@nestjs-secrets/core';
import { translateError } from './alibaba-errors.js';
import { type AlibabaClientOptions, call, connect, type OpenApiCaller } from './openapi-client.js';

/** Far beyond what Encrypt answers for 32 bytes, and what a URL may hold. */
const LONGEST_CIPHERTEXT = 4_096;

/** Alibaba Cloud KMS, one request a call: pauses and further attempts are the caller's. */
export class AlibabaKmsService implements RemoteKeyService {
  readonly defaultKey: string;
  #client: OpenApiCaller | undefined;

  constructor(
    readonly name: string,
    private readonly names: RemoteKeyNames,
    private readonly options: AlibabaClientOptions,
    private readonly attemptMs: number,
  ) {
    this.defaultKey = names.defaultKey;
  }

  async open(): Promise<void> {
    this.#client = connect(this.name, this.options);
  }

  async close(): Promise<void> {
    this.#client = undefined;
  }

  async list(): Promise<readonly CmkRef[]> {
    return this.names.refs;
  }

  async wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Promise<Uint8Array> {
    const keyId = this.names.of(cmk);
    const answer = await this.#call(
      'Encrypt',
      { KeyId: keyId, Plaintext: Buffer.from(dataKey).toString('base64'), ...contextOf(associatedData) },
      keyId,
    );
    this.#checkKey(keyId, answer['KeyId']);
    const { CiphertextBlob } = answer;
    // The text is kept as it is: nothing says that it is base64 and nothing else.
    if (typeof CiphertextBlob !== 'string' || CiphertextBlob === '') throw this.#incomplete('Encrypt');
    return Buffer.from(CiphertextBlob, 'latin1');
  }

  async unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Promise<Buffer> {
    const keyId = this.names.of(cmk);
    const blob = Buffer.from(wrappedKey).toString('latin1');
    if (blob.length > LONGEST_CIPHERTEXT || !/^[\x21-\x7e]+$/.test(blob)) {
      throw new KeyMismatchError(
        `A wrapped data key of ${blob.length} bytes is none of ${this.name}: the record was changed, or wrapped by another key provider.`,
      );
    }
    const answer = await this.#call('Decrypt', { CiphertextBlob: blob, ...contextOf(associatedData) }, keyId);
    // Decrypt takes no key: it uses whichever the ciphertext names.
    this.#checkKey(keyId, answer['KeyId']);
    const { Plaintext } = answer;
    if (typeof Plaintext !== 'string') throw this.#incomplete('Decrypt');
    const dataKey = Buffer.alloc(Buffer.byteLength(Plaintext, 'base64'));
    dataKey.write(Plaintext, 'base64');
    return dataKey;
  }

  async #call(
    action: string,
    query: Record<string, string>,
    keyId: string,
  ): Promise<Readonly<Record<string, unknown>>> {
    const client = this.#client;
    if (client === undefined) throw new KeyProviderError('KEY_PROVIDER_CLOSED', this.name, 'is not open.');
    let answer: object;
    try {
      answer = await call(client, action, query, this.attemptMs);
    } catch (error) {
      throw translateError(this.name, action, keyId, error);
    }
    const body: unknown = 'body' in answer ? answer.body : undefined;
    return typeof body === 'object' && body !== null ? { ...body } : {};
  }

  #checkKey(asked: string, used: unknown): void {
    if (used === asked) return;
    const shown = typeof used === 'string' ? used.slice(0, 64) : 'none';
    throw new KeyMismatchError(
      `${this.name} was to use the key ${asked} and says that it used ${shown}: nothing of its answer was used. The record was wrapped under another key, or something stands between the application and KMS.`,
    );
  }

  #incomplete(action: string): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_INVALID', this.name, `answered ${action} without a result.`);
  }
}

function contextOf(associatedData: Uint8Array): { readonly EncryptionContext: string } {
  return { EncryptionContext: JSON.stringify(encryptionContext(associatedData)) };
}
