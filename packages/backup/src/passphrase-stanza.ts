import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { type Identity, type Recipient, Stanza } from 'age-encryption';

/**
 * The passphrases of the age format (the `scrypt` stanza of https://age-encryption.org/v1), on the scrypt of Node: that of the library is computed in JavaScript, and holds up
 * everything else in the process for seconds. Files are the same.
 */
const KIND = 'scrypt';
const LABEL = 'age-encryption.org/v1/scrypt';
const SALT_BYTES = 16;
/** The cost, as the power of two that age uses, and the most that it takes from others. */
const WORK_FACTOR = 18;
const HIGHEST_WORK_FACTOR = 20;
const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;
const BODY_BYTES = 32;
/** Each key is used once. */
const NONCE = Buffer.alloc(12);

export function passphraseRecipient(passphrase: string): Recipient {
  return {
    async wrapFileKey(fileKey) {
      const salt = randomBytes(SALT_BYTES);
      const key = await keyOf(passphrase, salt, WORK_FACTOR);
      const cipher = createCipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
      const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
      key.fill(0);
      return [new Stanza([KIND, unpadded(salt), String(WORK_FACTOR)], body)];
    },
  };
}

export function passphraseIdentity(passphrase: string): Identity {
  // A backup is read twice, and its key is asked for each time.
  let known: { readonly stanza: string; readonly fileKey: Uint8Array } | undefined;
  return {
    async unwrapFileKey(stanzas) {
      const [stanza] = stanzas;
      // One that anybody can join proves nothing of a file.
      if (stanza === undefined || stanzas.length > 1 || stanza.args[0] !== KIND) return null;
      const print = JSON.stringify([stanza.args, unpadded(stanza.body)]);
      if (known?.stanza !== print) {
        const fileKey = await open(passphrase, stanza);
        known = fileKey && { stanza: print, fileKey };
      }
      return known?.fileKey ?? null;
    },
  };
}

async function open(passphrase: string, { args, body }: Stanza): Promise<Uint8Array | undefined> {
  const [, encoded = '', factor = ''] = args;
  const salt = Buffer.from(encoded, 'base64');
  const isSound = unpadded(salt) === encoded && salt.length === SALT_BYTES && /^[1-9]\d?$/.test(factor);
  if (!isSound || args.length !== 3 || body.length !== BODY_BYTES || Number(factor) > HIGHEST_WORK_FACTOR)
    throw new Error('invalid scrypt stanza');
  const key = await keyOf(passphrase, salt, Number(factor));
  const decipher = createDecipheriv(CIPHER, key, NONCE, { authTagLength: TAG_BYTES });
  key.fill(0);
  decipher.setAuthTag(body.subarray(-TAG_BYTES));
  const fileKey = decipher.update(body.subarray(0, -TAG_BYTES));
  try {
    decipher.final();
    return Uint8Array.prototype.slice.call(fileKey);
  } catch {
    return undefined;
  }
}

function keyOf(passphrase: string, salt: Buffer, factor: number): Promise<Buffer> {
  const cost = { N: 2 ** factor, r: 8, p: 1, maxmem: 2 ** factor * 1024 + 2 ** 24 };
  const labelled = Buffer.concat([Buffer.from(LABEL), salt]);
  return new Promise((resolve, reject) => {
    scrypt(passphrase, labelled, 32, cost, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

/** Base64 as age has it. */
function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '');
}
