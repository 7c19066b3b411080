import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

export type KmsKeyState = 'enabled' | 'disabled' | 'pending deletion';

/** A key of a pretended KMS. It really encrypts: AES-256-GCM, over the context and the key's own name. */
export interface KmsKey {
  readonly name: string;
  state: KmsKeyState;
  /** Access keys that may not use it. */
  readonly denied: Set<string>;
}

const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const OPTIONS = { authTagLength: TAG_BYTES };

export class KmsKeys {
  readonly #keys = new Map<string, KmsKey & { readonly secret: Buffer }>();

  add(name: string): KmsKey {
    const key = { name, state: 'enabled' as KmsKeyState, denied: new Set<string>(), secret: randomBytes(32) };
    this.#keys.set(name, key);
    return key;
  }

  find(name: string): KmsKey | undefined {
    return this.#keys.get(name);
  }

  encrypt({ name }: KmsKey, plaintext: Uint8Array, context: unknown): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#secret(name), nonce, OPTIONS);
    cipher.setAAD(bound(name, context));
    const head = Buffer.from(`${name}\n`);
    return Buffer.concat([head, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  /** The name of the key a ciphertext says that it was made with, if there is such a key. */
  keyOf(ciphertext: Buffer): KmsKey | undefined {
    const end = ciphertext.indexOf(0x0a);
    return end === -1 ? undefined : this.find(ciphertext.toString('latin1', 0, end));
  }

  decrypt({ name }: KmsKey, ciphertext: Buffer, context: unknown): Buffer | undefined {
    const body = ciphertext.subarray(Buffer.byteLength(name) + 1);
    if (body.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const decipher = createDecipheriv('aes-256-gcm', this.#secret(name), body.subarray(0, NONCE_BYTES), OPTIONS);
    decipher.setAAD(bound(name, context));
    decipher.setAuthTag(body.subarray(-TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(body.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  #secret(name: string): Buffer {
    const key = this.#keys.get(name);
    if (key === undefined) throw new Error(`There is no key ${name}.`);
    return key.secret;
  }
}

function bound(name: string, context: unknown): Buffer {
  const entries = Object.entries(typeof context === 'object' && context !== null ? context : {}).sort();
  return Buffer.from(JSON.stringify([name, entries]));
}
