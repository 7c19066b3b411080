import { StoreContentionError } from '../foundation/errors.js';
import type { KeyRegister } from '../encryption/keys/key-register.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { GuardedWrite, SealedEntry, SealedValues } from './sealed-values.js';
import { KEY_CHECK, parseStoreRecord, printStoreRecord, STORE_KEY } from './store-record.js';

const ATTEMPTS = 50;

/** What the store itself needs and keeps sealed, beside the values of secrets; all of it is under the default key. */
export class OwnEntries {
  constructor(
    private readonly store: StoreDriver,
    private readonly values: SealedValues,
    private readonly keys: KeyRegister,
    /** Those that are envelopes as a whole; the first record of the store, which has one in it, is known anyway. */
    private readonly entries: readonly SealedEntry[] = [],
  ) {}

  /** Those that are sealed under one of these versions of a key. */
  async under(id: string, versions: ReadonlySet<number>): Promise<string[]> {
    const found: string[] = [];
    for (const { key, context } of [...this.entries, { key: STORE_KEY, context: KEY_CHECK }]) {
      const entry = await this.store.get(key);
      if (entry === undefined) continue;
      const value = key === STORE_KEY ? parseStoreRecord(entry.value).keyCheck : entry.value;
      const under = this.values.sealedUnder(context, { ...entry, value });
      if (under?.id === id && versions.has(under.version)) found.push(`the store's own entry ${key}`);
    }
    return found;
  }

  /** Seals those anew that are not under the active version of the default key. */
  async reseal(): Promise<void> {
    for (const { key, context } of this.entries)
      await this.#change(key, (entry) => this.values.resealed(context, entry));
    await this.#change(STORE_KEY, async (entry) => {
      const stored = parseStoreRecord(entry.value);
      const write = await this.values.resealed(KEY_CHECK, { ...entry, value: stored.keyCheck });
      return write && { ...write, value: printStoreRecord({ ...stored, keyCheck: Buffer.from(write.value ?? []) }) };
    });
  }

  async #change(key: string, reseal: (entry: StoreEntry) => Promise<GuardedWrite | undefined>): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(key);
      const write = entry && (await reseal(entry));
      if (write === undefined) return;
      const { conditions = [], value } = write;
      if ((await this.store.commit({ conditions, writes: [{ key, value }] })) !== undefined) return;
      this.keys.invalidate();
    }
    throw new StoreContentionError(`the entry ${key} of the store`);
  }
}
