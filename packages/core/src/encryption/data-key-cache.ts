import { hash } from 'node:crypto';
import type { CmkRef } from './key-provider.js';

interface Entry {
  readonly dataKey: Buffer;
  readonly cmk: CmkRef;
  /** As of the monotonic clock. */
  readonly since: number;
}

/**
 * Unwrapped data keys, each under a digest of everything it was unwrapped from, so that no other place or master key finds it. Holds at most
 * `limit`; those not used for longest go first. What goes is zeroed.
 */
export class DataKeyCache {
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(private readonly limit: number) {}

  /** The name of what these unwrap to. */
  static slot(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): string {
    const id = Buffer.from(cmk.id);
    // Lengths in front, so that no two places are digested alike. Nothing in it is secret.
    const head = Buffer.alloc(12);
    head.writeUInt32BE(id.length, 0);
    head.writeUInt32BE(cmk.version, 4);
    head.writeUInt32BE(wrappedKey.length, 8);
    return hash('sha256', Buffer.concat([head, id, wrappedKey, associatedData]), 'base64url');
  }

  /** A data key, and how old it is; the buffer is the cache's own. Finding it counts as a use. */
  find(slot: string, now: number): { readonly dataKey: Buffer; readonly ageMs: number } | undefined {
    const entry = this.#entries.get(slot);
    if (entry === undefined) return undefined;
    this.#entries.delete(slot);
    this.#entries.set(slot, entry);
    return { dataKey: entry.dataKey, ageMs: now - entry.since };
  }

  /** Keeps a copy. */
  put(slot: string, cmk: CmkRef, dataKey: Uint8Array, now: number): void {
    if (this.limit === 0) return;
    this.forget(slot);
    this.#entries.set(slot, { dataKey: copyOf(dataKey), cmk, since: now });
    if (this.#entries.size <= this.limit) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.forget(oldest);
  }

  forget(slot: string): void {
    this.#entries.get(slot)?.dataKey.fill(0);
    this.#entries.delete(slot);
  }

  /** Forgets every data key of a version of a master key. */
  forgetAllOf({ id, version }: CmkRef): void {
    for (const [slot, { cmk }] of this.#entries) if (cmk.id === id && cmk.version === version) this.forget(slot);
  }

  /** Forgets those that are older than this. */
  forgetOlderThan(ageMs: number, now: number): void {
    for (const [slot, { since }] of this.#entries) if (now - since > ageMs) this.forget(slot);
  }

  clear(): void {
    for (const slot of this.#entries.keys()) this.forget(slot);
  }

  get size(): number {
    return this.#entries.size;
  }
}

/** A copy in memory of its own, which can be zeroed without touching another's. */
export function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.alloc(bytes.length);
  copy.set(bytes);
  return copy;
}
