import { StoreContentionError } from '../foundation/errors.js';
import type { KeyRegister } from '../encryption/keys/key-register.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { GuardedWrite, SealedEntry, SealedValues } from './sealed-values.js';
import { KEY_CHECK, parseStoreRecord, printStoreRecord, STORE_KEY } from '../integrity/store-opening.js';

const ATTEMPTS = 50;

/** Seals something in the store by its own rules, such as policies, whose head names them by digest. */
export interface SealKeeper {
  /** What of it is sealed under one of these versions of a key. */
  under(id: string, versions: ReadonlySet<number>): Promise<string[]>;
  /** Seals anew what is not under the active version of the default key. */
  reseal(): Promise<void>;
}

/** What the store itself needs and keeps sealed, beside the values of secrets; all of it is under the default key. */
export class OwnEntries {
  readonly #keepers: SealKeeper[] = [];

  constructor(
    private readonly store: StoreDriver,
    private readonly values: SealedValues,
    private readonly keys: KeyRegister,
    /** Those that are envelopes as a whole; the first record of the store, which has one in it, is known anyway. */
    private readonly entries: readonly SealedEntry[] = [],
  ) {}

  /** Adds what is sealed by rules of its own. */
  add(keeper: SealKeeper): void {
    this.#keepers.push(keeper);
  }

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
    for (const keeper of this.#keepers) found.push(...(await keeper.under(id, versions)));
    return found;
  }

  /** Seals those anew that are not under the active version of the default key. */
  async reseal(): Promise<void> {
    for (const keeper of this.#keepers) await keeper.reseal();
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
