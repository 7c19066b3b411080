import { randomUUID } from 'node:crypto';
import { faultOfSignature } from './aws-signature.js';
import { FaultyServer, type HttpAnswer, type HttpRequest } from './faulty-server.js';
import { type KmsKey, KmsKeys } from './kms-keys.js';

export const AWS_REGION = 'eu-central-1';
const ACCOUNT = '111122223333';
const LARGEST_PLAINTEXT = 4_096;
const LARGEST_CIPHERTEXT = 6_144;

/**
 * Encrypt and Decrypt of AWS KMS as its API reference describes them, on 127.0.0.1: it checks signatures by an implementation of its own and really
 * encrypts, binds and refuses. It is no proof of what AWS does beyond that document.
 */
export class AwsKmsEndpoint {
  readonly credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: `secret-${randomUUID()}` };
  readonly server = new FaultyServer(
    (request) => this.#handle(request),
    (kind) =>
      kind === 'throttle'
        ? refusal('ThrottlingException', 'You have exceeded the rate at which you may call KMS.')
        : refusal('KMSInternalException', 'An internal error.', 500),
  );
  readonly #keys = new KmsKeys();
  /** Operation and key of every request that was allowed. */
  readonly served: string[] = [];
  /** Answers with this key id instead of the right one. */
  answerAs: string | undefined;
  now: () => number = () => Date.now();

  async start(): Promise<this> {
    await this.server.start();
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  makeKey(): KmsKey {
    return this.#keys.add(`arn:aws:kms:${AWS_REGION}:${ACCOUNT}:key/${randomUUID()}`);
  }

  stop(): Promise<void> {
    return this.server.stop();
  }

  #handle(request: HttpRequest): HttpAnswer {
    const { accessKeyId, secretAccessKey } = this.credentials;
    const fault = faultOfSignature(
      request,
      (id) => (id === accessKeyId ? secretAccessKey : undefined),
      { region: AWS_REGION, service: 'kms' },
      this.now(),
    );
    if (fault !== undefined) return refusal(fault, `The request is not signed as it should be. ${accessKeyId}`);
    const operation = request.headers['x-amz-target'];
    const isJson = request.headers['content-type'] === 'application/x-amz-json-1.1';
    if (request.method !== 'POST' || request.url !== '/' || !isJson)
      return refusal('UnknownOperationException', 'Not a request of AWS JSON 1.1.');
    const input = JSON.parse(request.body.toString()) as Record<string, unknown>;
    const { KeyId, EncryptionContext, EncryptionAlgorithm = 'SYMMETRIC_DEFAULT' } = input;
    if (!isContext(EncryptionContext) || EncryptionAlgorithm !== 'SYMMETRIC_DEFAULT')
      return refusal('ValidationException', 'The context or the algorithm is not one.');
    if (operation === 'TrentService.Encrypt') return this.#encrypt(KeyId, input['Plaintext'], EncryptionContext);
    if (operation === 'TrentService.Decrypt') return this.#decrypt(KeyId, input['CiphertextBlob'], EncryptionContext);
    return refusal('UnknownOperationException', `There is no ${operation} here.`);
  }

  #encrypt(keyId: unknown, blob: unknown, context: unknown): HttpAnswer {
    const plaintext = Buffer.from(String(blob), 'base64');
    if (plaintext.length < 1 || plaintext.length > LARGEST_PLAINTEXT) return refusal('ValidationException', 'Length.');
    const key = this.#usable(keyId);
    if ('status' in key) return key;
    this.served.push(`Encrypt ${key.name}`);
    const ciphertext = this.#keys.encrypt(key, plaintext, context);
    return answer({ CiphertextBlob: ciphertext.toString('base64'), ...this.#answered(key) });
  }

  #decrypt(keyId: unknown, blob: unknown, context: unknown): HttpAnswer {
    const ciphertext = Buffer.from(String(blob), 'base64');
    if (ciphertext.length < 1 || ciphertext.length > LARGEST_CIPHERTEXT)
      return refusal('ValidationException', 'Length.');
    const used = this.#keys.keyOf(ciphertext);
    if (used === undefined) return refusal('InvalidCiphertextException', '');
    const key = this.#usable(keyId ?? used.name);
    if ('status' in key) return key;
    if (key.name !== used.name) return refusal('IncorrectKeyException', 'Not the key that encrypted this.');
    const plaintext = this.#keys.decrypt(key, ciphertext, context);
    if (plaintext === undefined) return refusal('InvalidCiphertextException', '');
    this.served.push(`Decrypt ${key.name}`);
    return answer({ Plaintext: plaintext.toString('base64'), ...this.#answered(key) });
  }

  #answered({ name }: KmsKey): object {
    return { KeyId: this.answerAs ?? name, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' };
  }

  #usable(keyId: unknown): KmsKey | HttpAnswer {
    const key = this.#keys.find(String(keyId));
    if (key === undefined) return refusal('NotFoundException', `Key '${String(keyId)}' does not exist`);
    const { accessKeyId } = this.credentials;
    if (key.denied.has(accessKeyId))
      return refusal('AccessDeniedException', `${accessKeyId} is not authorized to perform this on ${key.name}`);
    if (key.state === 'disabled') return refusal('DisabledException', `${key.name} is disabled.`);
    if (key.state !== 'enabled') return refusal('KMSInvalidStateException', `${key.name} is pending deletion.`);
    return key;
  }
}

function isContext(context: unknown): boolean {
  if (context === undefined) return true;
  return (
    typeof context === 'object' &&
    context !== null &&
    Object.values(context).every((value) => typeof value === 'string')
  );
}

const HEADERS = { 'content-type': 'application/x-amz-json-1.1' };

function answer(body: object): HttpAnswer {
  return { status: 200, headers: HEADERS, body: JSON.stringify(body) };
}

function refusal(code: string, message: string, status = 400): HttpAnswer {
  return { status, headers: HEADERS, body: JSON.stringify({ __type: code, message }) };
}
