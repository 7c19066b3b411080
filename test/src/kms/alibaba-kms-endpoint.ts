import { randomUUID } from 'node:crypto';
import { faultOfSignature } from './alibaba-signature.js';
import { FaultyServer, type HttpAnswer, type HttpRequest } from './faulty-server.js';
import { type KmsKey, KmsKeys } from './kms-keys.js';

/**
 * Encrypt and Decrypt of Alibaba Cloud KMS (2016-01-20) as its API reference describes them, on 127.0.0.1: it checks signatures by an implementation of its own,
 * takes no nonce twice, and really encrypts, binds and refuses. It is no proof of what Alibaba Cloud does beyond that document.
 */
export class AlibabaKmsEndpoint {
  readonly credentials = { accessKeyId: 'LTAI-EXAMPLE', accessKeySecret: `secret-${randomUUID()}` };
  readonly server = new FaultyServer(
    (request) => this.#handle(request),
    (kind) =>
      kind === 'throttle'
        ? refusal(400, 'Throttling.User', 'Request was denied due to user flow control.')
        : refusal(500, 'InternalFailure', 'An internal error.'),
  );
  readonly #keys = new KmsKeys();
  readonly #nonces = new Set<string>();
  /** Operation and key of every request that was allowed. */
  readonly served: string[] = [];
  /** Answers with this key id instead of the right one. */
  answerAs: string | undefined;

  async start(): Promise<this> {
    await this.server.start();
    return this;
  }

  get host(): string {
    return `127.0.0.1:${this.server.port}`;
  }

  makeKey(): KmsKey {
    return this.#keys.add(`key-${randomUUID()}`);
  }

  stop(): Promise<void> {
    return this.server.stop();
  }

  #handle(request: HttpRequest): HttpAnswer {
    const { accessKeyId, accessKeySecret } = this.credentials;
    const secretOf = (id: string): string | undefined => (id === accessKeyId ? accessKeySecret : undefined);
    const fault = faultOfSignature(request, secretOf, Date.now());
    // As the service does, it quotes what it wanted to be signed, parameters included.
    if (fault !== undefined) return refusal(400, fault, `The signature does not match: ${request.url}`);
    const nonce = request.headers['x-acs-signature-nonce'] ?? '';
    if (nonce === '' || this.#nonces.has(nonce)) return refusal(400, 'SignatureNonceUsed', 'Use a new nonce.');
    this.#nonces.add(nonce);
    const { 'x-acs-action': action, 'x-acs-version': version } = request.headers;
    const query = new URLSearchParams(request.url.split(/\?(.*)/s)[1] ?? '');
    const context = parseContext(query.get('EncryptionContext'));
    if (request.method !== 'POST' || version !== '2016-01-20' || context === undefined)
      return refusal(400, 'InvalidParameter', 'The specified parameter is not valid.');
    if (action === 'Encrypt') return this.#encrypt(query.get('KeyId'), query.get('Plaintext'), context);
    if (action === 'Decrypt') return this.#decrypt(query.get('CiphertextBlob'), context);
    return refusal(404, 'InvalidAction.NotFound', 'There is no such action here.');
  }

  #encrypt(keyId: string | null, plaintext: string | null, context: object): HttpAnswer {
    const bytes = Buffer.from(plaintext ?? '', 'base64');
    if (bytes.length === 0 || bytes.length > 6_144 || bytes.toString('base64') !== plaintext)
      return refusal(400, 'InvalidParameter', 'The specified parameter is not valid.');
    const key = this.#usable(keyId ?? '');
    if ('status' in key) return key;
    this.served.push(`Encrypt ${key.name}`);
    return this.#answer(key, { CiphertextBlob: this.#keys.encrypt(key, bytes, context).toString('base64') });
  }

  #decrypt(blob: string | null, context: object): HttpAnswer {
    const invalid = refusal(400, 'InvalidParameter', 'The specified parameter is not valid.');
    const ciphertext = Buffer.from(blob ?? '', 'base64');
    // One text for one ciphertext: a base64 text that is not the canonical one is refused.
    if (ciphertext.toString('base64') !== blob) return invalid;
    const used = this.#keys.keyOf(ciphertext);
    if (used === undefined) return invalid;
    const key = this.#usable(used.name);
    if ('status' in key) return key;
    const plaintext = this.#keys.decrypt(key, ciphertext, context);
    if (plaintext === undefined) return invalid;
    this.served.push(`Decrypt ${key.name}`);
    return this.#answer(key, { Plaintext: plaintext.toString('base64') });
  }

  #answer({ name }: KmsKey, body: object): HttpAnswer {
    return answer(200, { ...body, KeyId: this.answerAs ?? name, KeyVersionId: 'v1', RequestId: randomUUID() });
  }

  #usable(keyId: string): KmsKey | HttpAnswer {
    const key = this.#keys.find(keyId);
    if (key === undefined) return refusal(404, 'Forbidden.KeyNotFound', 'The specified Key is not found.');
    if (key.denied.has(this.credentials.accessKeyId)) return refusal(403, 'Forbidden.NoPermission', 'Not authorised.');
    if (key.state === 'disabled') return refusal(409, 'Rejected.Disabled', 'The key is disabled.');
    if (key.state !== 'enabled') return refusal(409, 'Rejected.PendingDeletion', 'The key is to be deleted.');
    return key;
  }
}

function parseContext(text: string | null): object | undefined {
  if (text === null) return {};
  try {
    const context: unknown = JSON.parse(text);
    const isMap = typeof context === 'object' && context !== null && !Array.isArray(context);
    return isMap && Object.values(context).every((value) => typeof value === 'string') ? context : undefined;
  } catch {
    return undefined;
  }
}

function answer(status: number, body: object): HttpAnswer {
  return { status, headers: { 'content-type': 'application/json;charset=utf-8' }, body: JSON.stringify(body) };
}

function refusal(status: number, code: string, message: string): HttpAnswer {
  return answer(status, { RequestId: randomUUID(), HostId: 'kms.example', Code: code, Message: message });
}
