import { StoreContentionError } from '../foundation/errors.js';
import type { KeyRegister } from '../encryption/keys/key-register.js';
import {
  KEY_CHECK,
  parseStoreRecord,
  printStoreRecord,
  ROOT_KEY_ENTRIES,
  ROOT_KEY_PLACE,
  STORE_COPY_KEY,
  STORE_KEY,
} from '../integrity/store-opening.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { SealKeeper } from './own-entries.js';
import { distinct } from './record-writes.js';
import type { SealedValues } from './sealed-values.js';

const ATTEMPTS = 50;
const KEYS = [STORE_KEY, STORE_COPY_KEY, ...ROOT_KEY_ENTRIES];

/** What the integrity of a store stands on, sealed under a master key: its own key and the first entry, each with its copy, which change together. */
export class IntegrityEntries implements SealKeeper {
  constructor(
    /** The driver below the seal, which shows these entries to nobody. */
    private readonly store: StoreDriver,
    private readonly values: SealedValues,
    private readonly keys: KeyRegister,
  ) {}

  async under(id: string, versions: ReadonlySet<number>): Promise<string[]> {
    const found: string[] = [];
    for (const key of [STORE_COPY_KEY, ...ROOT_KEY_ENTRIES]) {
      const entry = await this.store.get(key);
      if (entry === undefined) continue;
      const isRecord = key === STORE_COPY_KEY;
      const value = isRecord ? parseStoreRecord(entry.value).keyCheck : entry.value;
      const under = this.values.sealedUnder(isRecord ? KEY_CHECK : ROOT_KEY_PLACE, { ...entry, value });
      if (under?.id === id && versions.has(under.version)) found.push(`the store's own entry ${key}`);
    }
    return found;
  }

  async reseal(): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entries = await Promise.all(KEYS.map((key) => this.store.get(key)));
      if (await this.#resealOnce(entries.flatMap((entry) => entry ?? []))) return;
      this.keys.invalidate();
    }
    throw new StoreContentionError('the key of the integrity of the store');
  }

  /** Whether all is under the active version now. */
  async #resealOnce(entries: readonly StoreEntry[]): Promise<boolean> {
    const of = (key: string | undefined): StoreEntry | undefined => entries.find((entry) => entry.key === key);
    const [record, rootKey] = [of(STORE_KEY), of(ROOT_KEY_ENTRIES[0])];
    if (record === undefined || rootKey === undefined) return true;
    const stored = parseStoreRecord(record.value);
    const check = await this.values.resealed(KEY_CHECK, { ...record, value: stored.keyCheck });
    const root = await this.values.resealed(ROOT_KEY_PLACE, rootKey);
    if (check === undefined && root === undefined) return true;
    const keyCheck = check === undefined ? stored.keyCheck : Buffer.from(check.value ?? []);
    const recordValue = printStoreRecord({ ...stored, keyCheck });
    const rootValue = root?.value ?? rootKey.value;
    const asRead = entries.map(({ key, revision }) => ({ key, revision }));
    const committed = await this.store.commit({
      conditions: distinct([...asRead, ...(check?.conditions ?? []), ...(root?.conditions ?? [])]),
      writes: KEYS.map((key) => ({ key, value: ROOT_KEY_ENTRIES.includes(key) ? rootValue : recordValue })),
    });
    return committed !== undefined;
  }
}
