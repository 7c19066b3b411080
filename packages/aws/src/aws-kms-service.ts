import {
  DecryptCommand,
  EncryptCommand,
  KMSClient,
  type DecryptCommandOutput,
  type EncryptCommandOutput,
  type KMSClientConfig,
} from '@aws-sdk/client-kms';
import {
  type CmkRef,
  encryptionContext,
  KeyMismatchError,
  KeyProviderError,
  type RemoteKeyNames,
  type RemoteKeyService,
} from '@nestjs-secrets/core';
import { translateError } from './aws-errors.js';

/** The most that Decrypt takes. */
const LONGEST_CIPHERTEXT = 6_144;

/** AWS KMS, one request a call: pauses and further attempts are the caller's. */
export class AwsKmsService implements RemoteKeyService {
  readonly defaultKey: string;
  #client: KMSClient | undefined;

  constructor(
    readonly name: string,
    private readonly names: RemoteKeyNames,
    private readonly config: KMSClientConfig,
  ) {
    this.defaultKey = names.defaultKey;
  }

  async open(): Promise<void> {
    this.#client?.destroy();
    this.#client = new KMSClient({ ...this.config, maxAttempts: 1 });
  }

  async close(): Promise<void> {
    this.#client?.destroy();
    this.#client = undefined;
  }

  async list(): Promise<readonly CmkRef[]> {
    return this.names.refs;
  }

  async wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const arn = this.names.of(cmk);
    let answer: EncryptCommandOutput;
    try {
      answer = await this.#opened().send(
        new EncryptCommand({ KeyId: arn, Plaintext: dataKey, EncryptionContext: encryptionContext(associatedData) }),
        { abortSignal: signal },
      );
    } catch (error) {
      throw translateError(this.name, arn, error, dataKey);
    }
    this.#checkKey(arn, answer.KeyId);
    if (answer.CiphertextBlob === undefined) throw this.#incomplete('Encrypt');
    return answer.CiphertextBlob;
  }

  async unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array, signal: AbortSignal): Promise<Buffer> {
    const arn = this.names.of(cmk);
    if (wrappedKey.length === 0 || wrappedKey.length > LONGEST_CIPHERTEXT) {
      throw new KeyMismatchError(
        `A wrapped data key of ${wrappedKey.length} bytes is none of ${this.name}: the record was changed, or wrapped by another key provider.`,
      );
    }
    let answer: DecryptCommandOutput;
    try {
      answer = await this.#opened().send(
        // With the key named, KMS opens nothing that was encrypted under another one this role may use.
        new DecryptCommand({
          KeyId: arn,
          CiphertextBlob: wrappedKey,
          EncryptionContext: encryptionContext(associatedData),
        }),
        { abortSignal: signal },
      );
    } catch (error) {
      throw translateError(this.name, arn, error, wrappedKey);
    }
    const { Plaintext } = answer;
    if (Plaintext === undefined) throw this.#incomplete('Decrypt');
    const dataKey = Buffer.alloc(Plaintext.length);
    dataKey.set(Plaintext);
    Plaintext.fill(0);
    this.#checkKey(arn, answer.KeyId);
    return dataKey;
  }

  #checkKey(asked: string, used: string | undefined): void {
    if (used === asked) return;
    throw new KeyMismatchError(
      `${this.name} was asked to use ${asked} and says that it used ${used ?? 'none'}: nothing of its answer was used. Check what stands between the application and KMS.`,
    );
  }

  #incomplete(operation: string): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_INVALID', this.name, `answered ${operation} without a result.`);
  }

  #opened(): KMSClient {
    if (this.#client !== undefined) return this.#client;
    throw new KeyProviderError('KEY_PROVIDER_CLOSED', this.name, 'is not open.');
  }
}
