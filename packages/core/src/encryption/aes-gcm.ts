import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';

export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** How much longer a box is than the plaintext in it. */
export const BOX_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES;

// Without a stated length Node accepts tags of 4 bytes, which are easily forged.
const OPTIONS = Object.freeze({ authTagLength: TAG_BYTES });

/**
 * Encrypts with AES-256-GCM (NIST SP 800-38D) into a box: nonce, ciphertext and tag in a row, written to `target` from `offset` on. The nonce must
 * be fresh for the key.
 */
export function writeBox(
  target: Buffer,
  offset: number,
  key: KeyObject | Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): void {
  const cipher = createCipheriv('aes-256-gcm', key, nonce, OPTIONS);
  cipher.setAAD(associatedData);
  target.set(nonce, offset);
  target.set(cipher.update(plaintext), offset + NONCE_BYTES);
  cipher.final();
  target.set(cipher.getAuthTag(), offset + NONCE_BYTES + plaintext.length);
}

/** The plaintext of a box, or undefined when the box, the key or the associated data is not the right one. */
export function openBox(box: Buffer, key: KeyObject | Uint8Array, associatedData: Uint8Array): Buffer | undefined {
  if (box.length < BOX_OVERHEAD_BYTES) return undefined;
  const tagOffset = box.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, box.subarray(0, NONCE_BYTES), OPTIONS);
  decipher.setAAD(associatedData);
  decipher.setAuthTag(box.subarray(tagOffset));
  // update() answers before anything is verified, so its result leaves this function only after final().
  const plaintext = decipher.update(box.subarray(NONCE_BYTES, tagOffset));
  try {
    decipher.final();
  } catch {
    plaintext.fill(0);
    return undefined;
  }
  return plaintext;
}
