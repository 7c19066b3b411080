import { createHash, hash } from 'node:crypto';

const HASH = 'sha256';
const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
/** Where messages begin in the buffer of `room`: behind the key. */
export const ROOM_START = BLOCK_BYTES;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;
/** The workspace is made larger for messages up to this length; longer ones are none of a log's lines, and take the slow way. */
const LONGEST_IN_WORKSPACE = 1_048_576;

/**
 * HMAC-SHA-256 (RFC 2104) with one key, for many messages of some hundred bytes. As two hashes in one call each, since making and finishing a
 * `Hmac` costs several times what it hashes; their results come as text, since a Buffer of its own costs more than the hash.
 */
export class HmacKey {
  /** The key over the inner pad, then the message at hand. */
  #workspace = Buffer.alloc(BLOCK_BYTES + 1024);
  /** The key over the outer pad, then the inner hash. */
  readonly #outer = Buffer.alloc(BLOCK_BYTES + HASH_BYTES);

  /** The key is copied; at most 64 bytes. */
  constructor(key: Uint8Array) {
    for (let index = 0; index < BLOCK_BYTES; index += 1) {
      const byte = key[index] ?? 0;
      this.#workspace[index] = byte ^ INNER_PAD;
      this.#outer[index] = byte ^ OUTER_PAD;
    }
  }

  /** A buffer with room for a message of so many bytes from `ROOM_START` on, to be written there before `macOfRoom`; valid until the next call of anything here. */
  room(bytes: number): Buffer {
    if (ROOM_START + bytes > this.#workspace.length) {
      const larger = Buffer.alloc(2 * (ROOM_START + bytes));
      this.#workspace.copy(larger, 0, 0, ROOM_START);
      this.#workspace.fill(0);
      this.#workspace = larger;
    }
    return this.#workspace;
  }

  /** The MAC, in hex, of the first `bytes` in the room. */
  macOfRoom(bytes: number): string {
    return this.#finish(hash(HASH, this.#workspace.subarray(0, ROOM_START + bytes), 'binary'));
  }

  /** The MAC of a message in parts, in hex. */
  mac(...parts: readonly Uint8Array[]): string {
    let length = 0;
    for (const { byteLength } of parts) length += byteLength;
    if (length > LONGEST_IN_WORKSPACE) {
      const inner = createHash(HASH).update(this.#workspace.subarray(0, BLOCK_BYTES));
      for (const part of parts) inner.update(part);
      return this.#finish(inner.digest('binary'));
    }
    const room = this.room(length);
    let end = ROOM_START;
    for (const part of parts) {
      room.set(part, end);
      end += part.byteLength;
    }
    return this.macOfRoom(length);
  }

  #finish(inner: string): string {
    this.#outer.write(inner, BLOCK_BYTES, HASH_BYTES, 'latin1');
    return hash(HASH, this.#outer, 'hex');
  }
}
