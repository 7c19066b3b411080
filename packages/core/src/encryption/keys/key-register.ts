import type { Cancel, Clock } from '../../foundation/clock.js';
import type { StoreCondition, StoreDriver } from '../../store/store-driver.js';
import type { CmkRef, KeyProvider } from '../key-provider.js';
import { KeyDestroyedError, KeyDisabledError, KeyInactiveError, KeyNotFoundError } from './key-errors.js';
import {
  activeVersion,
  type CmkRecord,
  type CmkVersionRecord,
  DEFAULT_ALIAS,
  KEY_RECORD_PREFIX,
} from './key-record.js';
import { KeyRecords } from './key-records.js';
import { DEFAULT_WRAP_LIMIT, WrapCounts } from './wrap-counts.js';

export interface KeyRegisterParts {
  readonly store: StoreDriver;
  readonly keys: KeyProvider;
  readonly clock: Clock;
  /** 0.9 · 2^32 by default; lower in tests only. */
  readonly wrapLimit?: number;
}

/** The key version to seal under. */
export interface SealingKey {
  readonly cmk: CmkRef;
  /** For the commit of whatever is sealed: fails when the version is not the one to seal under any more. */
  readonly condition: StoreCondition;
}

interface Known {
  readonly record: CmkRecord;
  readonly revision: number;
  readonly loadedAt: number;
}

/** How long a record counts without a look at the store, should the hint of its change get lost. */
const LONGEST_AGE_MS = 10_000;
/** How often a store may be moved from one key provider to another, and back, and still be asked for a key by its first id. */
const LONGEST_CHAIN = 8;

/**
 * Which version of which master key seals, and which may open: what the store says of the keys, at hand for every value. Whoever seals commits on
 * condition that the answer still holds, so nothing ever lands under a version that is not active. A version that was disabled elsewhere opens nothing here as soon as the
 * hint arrives, or after 10 s.
 */
export class KeyRegister {
  readonly records: KeyRecords;
  readonly wraps: WrapCounts;
  readonly #known = new Map<string, Known>();
  readonly #loading = new Map<string, Promise<Known | undefined>>();
  readonly #limitListeners = new Set<(cmk: CmkRef) => void>();
  readonly #changeListeners = new Set<() => void>();
  /** Counts what made it forget, so that an answer on its way by then is not remembered. */
  #epoch = 0;
  #defaultId: { readonly id: string; readonly loadedAt: number } | undefined;
  #unwatch: Cancel | undefined;

  constructor(private readonly parts: KeyRegisterParts) {
    this.records = new KeyRecords(parts.store);
    this.wraps = new WrapCounts(parts.store, parts.wrapLimit ?? DEFAULT_WRAP_LIMIT, (cmk) => {
      for (const listener of this.#limitListeners) listener(cmk);
    });
  }

  /** Takes on what the store says, and enters the provider's key as the default one where the store knows none yet. */
  async open(): Promise<void> {
    this.#unwatch = this.parts.store.watch(
      ({ keys }) => {
        if (keys !== undefined && !keys.some((key) => key.startsWith(KEY_RECORD_PREFIX))) return;
        this.invalidate();
        for (const listener of this.#changeListeners) listener();
      },
      [KEY_RECORD_PREFIX],
    );
    if ((await this.records.aliased(DEFAULT_ALIAS)) === undefined) await this.#enterDefault();
  }

  close(): void {
    this.#unwatch?.();
    this.#limitListeners.clear();
    this.#changeListeners.clear();
  }

  /** Told when the state of a key may have changed. */
  onChange(listener: () => void): Cancel {
    this.#changeListeners.add(listener);
    return () => void this.#changeListeners.delete(listener);
  }

  /** Told of a version that has wrapped as much as it should, again and again until there is another. */
  onWrapLimit(listener: (cmk: CmkRef) => void): Cancel {
    this.#limitListeners.add(listener);
    return () => void this.#limitListeners.delete(listener);
  }

  /** Forgets what it knows, so that the next question is answered by the store. */
  invalidate(): void {
    this.#epoch += 1;
    this.#loading.clear();
    this.#known.clear();
    this.#defaultId = undefined;
  }

  /**
   * The active version of a key, the default one unless an id is given, with one more wrap counted.
   * @throws KeyNotFoundError, KeyInactiveError, KeyExhaustedError
   */
  async forSealing(id?: string): Promise<SealingKey> {
    const { record, revision } = await this.#sealing(id ?? (await this.defaultId()));
    const cmk = requireActive(record);
    const taking = this.wraps.take(cmk);
    if (taking !== undefined) await taking;
    return { cmk, condition: { key: KEY_RECORD_PREFIX + record.id, revision } };
  }

  /**
   * The active version of a key, the default one unless an id is given.
   * @throws KeyNotFoundError, KeyInactiveError
   */
  async activeVersion(id?: string): Promise<CmkRef> {
    return requireActive((await this.#sealing(id ?? (await this.defaultId()))).record);
  }

  /**
   * Refuses a key version that must not open anything; answers at once as long as what is known of the key is fresh.
   * @throws KeyDisabledError, KeyDestroyedError
   */
  admit(cmk: CmkRef): void | Promise<void> {
    const known = this.#known.get(cmk.id);
    if (known !== undefined && this.#isFresh(known.loadedAt)) return admitVersion(known.record, cmk);
    return this.#load(cmk.id).then((loaded) => loaded && admitVersion(loaded.record, cmk));
  }

  async defaultId(): Promise<string> {
    const known = this.#defaultId;
    if (known !== undefined && this.#isFresh(known.loadedAt)) return known.id;
    const epoch = this.#epoch;
    const loadedAt = this.parts.clock.monotonic();
    const id = await this.records.aliased(DEFAULT_ALIAS);
    if (id === undefined) throw new KeyNotFoundError(DEFAULT_ALIAS);
    if (epoch === this.#epoch) this.#defaultId = { id, loadedAt };
    return id;
  }

  async #require(id: string): Promise<Known> {
    const known = this.#known.get(id);
    if (known !== undefined && this.#isFresh(known.loadedAt)) return known;
    const loaded = await this.#load(id);
    if (loaded === undefined) throw new KeyNotFoundError(id);
    return loaded;
  }

  /** The record of the key to seal under: of one that was moved away from, that of the key in its place. */
  async #sealing(id: string): Promise<Known> {
    let known = await this.#require(id);
    for (let steps = 0; steps < LONGEST_CHAIN; steps += 1) {
      const { movedTo } = known.record;
      if (movedTo === undefined || activeVersion(known.record) !== undefined) break;
      known = await this.#require(movedTo);
    }
    return known;
  }

  #isFresh(loadedAt: number): boolean {
    return this.parts.clock.monotonic() - loadedAt < LONGEST_AGE_MS;
  }

  #load(id: string): Promise<Known | undefined> {
    let loading = this.#loading.get(id);
    if (loading === undefined) {
      const loadingNow = this.#loadOnce(id).finally(() => {
        if (this.#loading.get(id) === loadingNow) this.#loading.delete(id);
      });
      loading = loadingNow;
      this.#loading.set(id, loading);
    }
    return loading;
  }

  async #loadOnce(id: string): Promise<Known | undefined> {
    const epoch = this.#epoch;
    const loadedAt = this.parts.clock.monotonic();
    const found = await this.records.find(id);
    if (found === undefined) return undefined;
    const known = { ...found, loadedAt };
    if (epoch === this.#epoch) this.#known.set(id, known);
    return known;
  }

  async #enterDefault(): Promise<void> {
    const { keys, clock } = this.parts;
    const active = await keys.active();
    const others = ((await keys.list?.()) ?? []).filter(
      ({ id, version }) => id === active.id && version < active.version,
    );
    const now = clock.now();
    const older = others.map(({ version }): CmkVersionRecord => ({
      version,
      state: 'decrypt-only',
      createdAt: now,
      activatedAt: now,
    }));
    const newest: CmkVersionRecord = { version: active.version, state: 'active', createdAt: now, activatedAt: now };
    // Another instance may be first: what is stored counts.
    await this.records.add({
      format: 1,
      id: active.id,
      description: 'The default key',
      createdAt: now,
      aliases: [DEFAULT_ALIAS],
      versions: [...older.toSorted((one, other) => one.version - other.version), newest],
    });
  }
}

function requireActive(record: CmkRecord): CmkRef {
  const cmk = activeVersion(record);
  if (cmk === undefined) throw new KeyInactiveError(record.id);
  return cmk;
}

function admitVersion(record: CmkRecord, cmk: CmkRef): void {
  const version = record.versions.find((one) => one.version === cmk.version);
  if (version?.state === 'disabled') throw new KeyDisabledError(cmk, version.destroyAt);
  if (version?.state === 'destroyed') throw new KeyDestroyedError(cmk);
}
