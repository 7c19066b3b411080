import { createHash, hash, timingSafeEqual } from 'node:crypto';

const HASH = 'sha256';
const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
/** What RFC 2104, section 5, lets a MAC be cut to. */
const LEAST_BYTES = 16;
const [INNER_PAD, OUTER_PAD] = [0x36, 0x5c];
/** Longer messages in parts are hashed where they are: what a copy costs is nothing beside what it saves only for short ones. */
const LONGEST_COPY = 16_384;
/** Where messages begin in the buffer of `room`: behind the key. */
export const ROOM_START = BLOCK_BYTES;

/**
 * HMAC-SHA-256 (RFC 2104) under one key, for many short messages, as two hashes in one call each: `createHmac` makes an object and a piece of memory for each message and takes two
 * to three times as long, and a change of the store takes six of them. Results are made as text, since a Buffer of its own takes longer than the hash. For that the key is in Buffers,
 * masked with the constants of the RFC, and not in a `KeyObject`: `end` overwrites it.
 */
export class HmacKey {
  /** The key over the inner pad, then the message at hand. */
  #workspace = Buffer.allocUnsafeSlow(ROOM_START + BLOCK_BYTES);
  /** The key over the outer pad, then the inner hash. */
  readonly #outer = Buffer.allocUnsafeSlow(BLOCK_BYTES + HASH_BYTES);
  readonly #proof = Buffer.allocUnsafeSlow(HASH_BYTES);
  #isEnded = false;

  /**
   * `key` has at most 64 bytes, and is left to the caller to zero.
   * @param ended what to throw once the key was overwritten
   */
  constructor(
    key: Uint8Array,
    private readonly ended = (): Error => new Error('This key was overwritten.'),
  ) {
    for (let at = 0; at < BLOCK_BYTES; at += 1) {
      this.#workspace[at] = (key[at] ?? 0) ^ INNER_PAD;
      this.#outer[at] = (key[at] ?? 0) ^ OUTER_PAD;
    }
  }

  /** A buffer with room for a message of so many bytes from `ROOM_START` on, to be written there before `macOfRoom`; valid until the next call of anything here. */
  room(bytes: number): Buffer {
    const length = ROOM_START + bytes;
    if (length > this.#workspace.length) {
      const larger = Buffer.allocUnsafeSlow(2 * length);
      this.#workspace.copy(larger, 0, 0, ROOM_START);
      this.#workspace.fill(0);
      this.#workspace = larger;
    }
    return this.#workspace;
  }

  /** The MAC, in hex, of the first `bytes` in the room. */
  macOfRoom(bytes: number): string {
    this.#outer.write(this.#hashRoom(bytes), BLOCK_BYTES, 'latin1');
    return hash(HASH, this.#outer, 'hex');
  }

  /** The MAC, in hex, over parts. Here and below, their lengths must be fixed or stand in front of them, or the last one alone may vary. */
  mac(...parts: readonly Uint8Array[]): string {
    this.#outer.write(this.#hashParts(parts), BLOCK_BYTES, 'latin1');
    return hash(HASH, this.#outer, 'hex');
  }

  /** Writes the first `length` bytes of the MAC over parts. */
  write(into: Buffer, at: number, length: number, ...parts: readonly Uint8Array[]): void {
    this.#outer.write(this.#hashParts(parts), BLOCK_BYTES, 'latin1');
    into.write(hash(HASH, this.#outer, 'binary'), at, length, 'latin1');
  }

  /** Whether `tag` is the MAC over these parts, or as much of it as it has bytes (16 or more); in a time that does not tell where they differ. */
  proves(tag: Uint8Array, ...parts: readonly Uint8Array[]): boolean {
    this.write(this.#proof, 0, HASH_BYTES, ...parts);
    if (tag.length < LEAST_BYTES || tag.length > HASH_BYTES) return false;
    return timingSafeEqual(this.#proof.subarray(0, tag.length), tag);
  }

  /** Overwrites the key. Whoever is still at work must not take what it cannot prove any more for something that was changed: it gets an error. */
  end(): void {
    this.#isEnded = true;
    this.#workspace.fill(0);
    this.#outer.fill(0);
  }

  /** One character a byte. */
  #hashRoom(bytes: number): string {
    if (this.#isEnded) throw this.ended();
    return hash(HASH, this.#workspace.subarray(0, ROOM_START + bytes), 'binary');
  }

  #hashParts(parts: readonly Uint8Array[]): string {
    let length = 0;
    for (const part of parts) length += part.length;
    if (length > LONGEST_COPY) return this.#hashInPlace(parts);
    const room = this.room(length);
    let at = ROOM_START;
    for (const part of parts) {
      room.set(part, at);
      at += part.length;
    }
    return this.#hashRoom(length);
  }

  #hashInPlace(parts: readonly Uint8Array[]): string {
    if (this.#isEnded) throw this.ended();
    const inner = createHash(HASH).update(this.#workspace.subarray(0, BLOCK_BYTES));
    for (const part of parts) inner.update(part);
    return inner.digest('binary');
  }
}
