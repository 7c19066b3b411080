import { hash, timingSafeEqual } from 'node:crypto';
import { StoreClosedError } from '../foundation/errors.js';

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
/** What RFC 2104, section 5, lets a MAC be cut to. */
const LEAST_BYTES = 16;
/** Room that is kept from one message to the next; longer ones get their own. */
const KEPT_BYTES = 8192;

/**
 * HMAC-SHA-256 (RFC 2104) under one key, as two hashes in one call each. `createHmac` makes an object and a piece of memory for each message, and takes two to three times as
 * long; a change of the store takes six of them. For that the key is in a Buffer (masked with the constants of the RFC), not in a `KeyObject`: it is overwritten by `end`.
 */
export class MacKey {
  /** The key for the inner hash, and behind it the message. */
  #inner: Buffer;
  /** The key for the outer hash, and behind it the inner hash. */
  readonly #outer = Buffer.allocUnsafeSlow(BLOCK_BYTES + HASH_BYTES);
  #isEnded = false;
  readonly #result = Buffer.allocUnsafeSlow(HASH_BYTES);

  /** `key` has at most 64 bytes, and is left to the caller to zero. */
  constructor(key: Uint8Array) {
    this.#inner = Buffer.allocUnsafeSlow(BLOCK_BYTES + BLOCK_BYTES);
    for (let at = 0; at < BLOCK_BYTES; at += 1) {
      this.#inner[at] = (key[at] ?? 0) ^ 0x36;
      this.#outer[at] = (key[at] ?? 0) ^ 0x5c;
    }
  }

  /** Writes the first `length` bytes of the MAC over parts whose lengths must be fixed, or stand in front of them. */
  write(into: Buffer, at: number, length: number, ...parts: readonly Uint8Array[]): void {
    into.write(this.#mac(parts), at, length, 'latin1');
  }

  /** Whether `tag` is the MAC over these parts, or as much of it as it has bytes; in a time that does not tell where they differ. */
  proves(tag: Uint8Array, ...parts: readonly Uint8Array[]): boolean {
    if (tag.length < LEAST_BYTES || tag.length > HASH_BYTES) return false;
    this.#result.write(this.#mac(parts), 0, HASH_BYTES, 'latin1');
    return timingSafeEqual(this.#result.subarray(0, tag.length), tag);
  }

  /** Overwrites the key. Whoever is still at work must not take what it cannot prove any more for something that was changed: it gets a StoreClosedError. */
  end(): void {
    this.#isEnded = true;
    this.#inner.fill(0);
    this.#outer.fill(0);
  }

  /** One character a byte: a result as text is made within the call, where a Buffer takes longer than the hash. */
  #mac(parts: readonly Uint8Array[]): string {
    if (this.#isEnded) throw new StoreClosedError('integrity');
    let length = BLOCK_BYTES;
    for (const part of parts) length += part.length;
    const inner = length <= this.#inner.length ? this.#inner : this.#roomFor(length);
    let at = BLOCK_BYTES;
    for (const part of parts) {
      inner.set(part, at);
      at += part.length;
    }
    this.#outer.write(hash('sha256', inner.subarray(0, length), 'binary'), BLOCK_BYTES, 'latin1');
    if (inner !== this.#inner) inner.fill(0, 0, BLOCK_BYTES);
    return hash('sha256', this.#outer, 'binary');
  }

  #roomFor(length: number): Buffer {
    const isKept = length <= KEPT_BYTES;
    const room = Buffer.allocUnsafeSlow(isKept ? Math.min(KEPT_BYTES, 2 * length) : length);
    this.#inner.copy(room, 0, 0, BLOCK_BYTES);
    if (!isKept) return room;
    this.#inner.fill(0);
    this.#inner = room;
    return room;
  }
}
