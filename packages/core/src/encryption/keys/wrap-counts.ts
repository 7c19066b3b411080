import { CorruptRecordError, StoreContentionError } from '../../foundation/errors.js';
import type { StoreDriver } from '../../store/store-driver.js';
import type { CmkRef } from '../key-provider.js';
import { KeyExhaustedError } from './key-errors.js';

/** NIST SP 800-38D, 8.3: at most 2^32 encryptions under one key where nonces are random. */
const MOST_WRAPS = 2 ** 32;
/** At this share of the most, the next version is due. */
const RETIRE_AT = 0.9;
/** How many wraps a version of a key is good for before it makes way for the next: 0.9 · 2^32. */
export const DEFAULT_WRAP_LIMIT = Math.floor(RETIRE_AT * MOST_WRAPS);

const PREFIX = 'cmk/wraps/';
const FIRST_BLOCK = 16;
const LARGEST_BLOCK = 65_536;
const GROWTH = 4;
const ATTEMPTS = 50;

/**
 * Counts the data keys that each version of a master key has wrapped, all instances together. An instance takes wraps from the store in blocks, before it uses
 * them: what it had left when it died counts as used, so the count is never too low.
 */
export class WrapCounts {
  readonly #left = new Map<string, number>();
  readonly #blocks = new Map<string, number>();
  readonly #reserving = new Map<string, Promise<void>>();

  constructor(
    private readonly store: StoreDriver,
    /** A version that has reached it is to be replaced; in the tenth beyond it can still be used meanwhile. */
    private readonly limit: number,
    private readonly onLimit: (cmk: CmkRef) => void,
  ) {}

  /**
   * Counts one wrap, without waiting while the block lasts.
   * @throws KeyExhaustedError
   */
  take(cmk: CmkRef): Promise<void> | undefined {
    const key = entryKey(cmk);
    const left = this.#left.get(key) ?? 0;
    if (left === 0) return this.#reserve(cmk, key).then(() => this.take(cmk));
    this.#left.set(key, left - 1);
    return undefined;
  }

  async count(cmk: CmkRef): Promise<number> {
    const entry = await this.store.get(entryKey(cmk));
    return entry === undefined ? 0 : parseCount(cmk, entry.value);
  }

  /** Whether the next version is due. */
  async isAtLimit(cmk: CmkRef): Promise<boolean> {
    return (await this.count(cmk)) >= this.limit;
  }

  #reserve(cmk: CmkRef, key: string): Promise<void> {
    let reserving = this.#reserving.get(key);
    if (reserving === undefined) {
      reserving = this.#reserveOnce(cmk, key).finally(() => this.#reserving.delete(key));
      this.#reserving.set(key, reserving);
    }
    return reserving;
  }

  async #reserveOnce(cmk: CmkRef, key: string): Promise<void> {
    const most = Math.floor(this.limit / RETIRE_AT);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const used = entry === undefined ? 0 : parseCount(cmk, entry.value);
      if (used >= this.limit) this.onLimit(cmk);
      // Small limits in small steps, so that they are met where they are set.
      const largest = Math.max(1, Math.min(LARGEST_BLOCK, Math.floor(this.limit / 1000)));
      const block = Math.min(this.#blocks.get(key) ?? FIRST_BLOCK, largest, most - used);
      if (block <= 0) throw new KeyExhaustedError(cmk, most);
      const revision = await this.store.commit({
        conditions: [{ key, revision: entry?.revision ?? 0 }],
        writes: [{ key, value: Buffer.from(JSON.stringify({ format: 1, wraps: used + block })) }],
      });
      if (revision === undefined) continue;
      this.#blocks.set(key, block * GROWTH);
      this.#left.set(key, (this.#left.get(key) ?? 0) + block);
      return;
    }
    throw new StoreContentionError(`the wraps of master key ${cmk.id}`);
  }
}

function entryKey({ id, version }: CmkRef): string {
  return `${PREFIX}${id}:${version}`;
}

function parseCount(cmk: CmkRef, bytes: Uint8Array): number {
  try {
    const { format, wraps } = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (format === 1 && Number.isSafeInteger(wraps) && wraps >= 0) return wraps;
  } catch {
    // Falls through to the one error below.
  }
  throw new CorruptRecordError(
    `The count of wraps of master key ${cmk.id} version ${cmk.version}`,
    'it does not parse',
  );
}
