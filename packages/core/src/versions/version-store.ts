import {
  CorruptRecordError,
  SecretNotFoundError,
  StoreContentionError,
  VersionLimitError,
} from '../foundation/errors.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import type { Keyring } from '../encryption/keyring.js';
import { KeyRegister } from '../encryption/keys/key-register.js';
import { openStoreRecord } from '../integrity/store-opening.js';
import { refuseMovedStore } from '../store/move-records.js';
import type { StoreDriver, StoreEntry, StoreHint } from '../store/store-driver.js';
import {
  distinct,
  GONE_PREFIX,
  LEASE_PREFIX,
  RECORD_PREFIX,
  recordRemovals,
  recordWrites,
  SCHEDULED_PREFIX,
} from './record-writes.js';
import { type GuardedWrite, type SealedEntry, SealedValues, valueKey, versionRemoval } from './sealed-values.js';
import type { RecordEdit, RecordRemoval, VersionStoreOptions } from './version-store-options.js';
import { decodeValue, encodeValue, VALUE_LIMIT_BYTES } from './secret-value.js';
import { type LeaseOwner, parseSecretRecord, prune, type SecretRecord } from './secret-record.js';
import { IntegrityEntries } from './integrity-entries.js';
import { OwnEntries } from './own-entries.js';
import { DEFAULT_EXPIRY_WARNINGS, planDestructions } from './version-lifecycle.js';

/** As many versions as a secret can have: those with a stage, those still to be retired, and the newest few of the others. */
const VERSION_LIMIT = 100;
/** What is sealed under a key of the store; not a legal secret name, so that it can never be passed off as a value. */
const ENTRY = '#entry';
const ATTEMPTS = 50;
const PAGE = 500;

export type { RecordEdit, RecordRemoval, VersionStoreOptions };

/** An entry that `sealEntry` seals. */
export function sealedEntry(key: string): SealedEntry {
  return { key, context: { secretName: ENTRY, versionId: key } };
}

/**
 * Secrets, versions and stages over a store driver: records in JSON, each value sealed in an envelope of its own. Every change of a secret
 * is one compare-and-set commit on its record.
 */
export class VersionStore {
  readonly store: StoreDriver;
  /** What the store says of the master keys. */
  readonly keys: KeyRegister;
  /** How long before a version expires that is told, in milliseconds. */
  readonly expiryWarnings: readonly number[];
  #opened: { readonly keyring: Keyring; readonly values: SealedValues; readonly own: OwnEntries } | undefined;

  constructor(private readonly options: VersionStoreOptions) {
    this.store = options.store;
    this.keys = new KeyRegister(options);
    this.expiryWarnings = options.expiryWarnings ?? DEFAULT_EXPIRY_WARNINGS;
  }

  /** Where keys are. */
  get provider(): KeyProvider {
    return this.options.keys;
  }

  randomBytes(length: number): Buffer {
    return this.options.randomness.bytes(length);
  }

  get keyring(): Keyring {
    return this.#mustBeOpen().keyring;
  }

  get values(): SealedValues {
    return this.#mustBeOpen().values;
  }

  /** What is sealed in the store beside the values. */
  get ownEntries(): OwnEntries {
    return this.#mustBeOpen().own;
  }

  /**
   * Opens the store and the keys and makes sure that they belong together.
   * @throws KeyMismatchError when the store was sealed under another key
   */
  async open(): Promise<void> {
    const { store, integrity, keys, randomness, ids, clock } = this.options;
    await keys.open();
    await store.open();
    await refuseMovedStore(store);
    const parts = { keys, randomness, newStoreId: ids.next(), now: clock.now() };
    const { keyring } =
      integrity === undefined ? await openStoreRecord({ ...parts, store }) : await integrity.open(parts);
    await this.keys.open();
    const values = new SealedValues(store, keyring, this.keys);
    const own = new OwnEntries(store, values, this.keys, this.options.sealedEntries);
    if (integrity !== undefined) own.add(new IntegrityEntries(integrity.store.inner, values, this.keys));
    this.#opened = { keyring, values, own };
  }

  async close(): Promise<void> {
    const { store, integrity, keys } = this.options;
    this.keys.close();
    await (integrity ?? store).close();
    await keys.close();
  }

  async find(name: string): Promise<{ record: SecretRecord; revision: number } | undefined> {
    const entry = await this.store.get(RECORD_PREFIX + name);
    return entry && { record: parseSecretRecord(name, entry.value), revision: entry.revision };
  }

  /** @throws SecretNotFoundError */
  async get(name: string): Promise<SecretRecord> {
    const found = await this.find(name);
    if (found === undefined) throw new SecretNotFoundError(name);
    return found.record;
  }

  /** Records in the order of their names; undefined for one that is corrupt, so that it does not keep the others away. */
  async list(options: {
    prefix: string;
    after?: string;
    limit: number;
  }): Promise<{ name: string; record: SecretRecord | undefined }[]> {
    const entries = await this.store.list({
      prefix: RECORD_PREFIX + options.prefix,
      limit: options.limit,
      ...(options.after === undefined ? {} : { after: RECORD_PREFIX + options.after }),
    });
    return entries.map(({ key, value }) => {
      const name = key.slice(RECORD_PREFIX.length);
      try {
        return { name, record: parseSecretRecord(name, value) };
      } catch {
        return { name, record: undefined };
      }
    });
  }

  /** The names of the secrets whose policy has a schedule. */
  async scheduled(): Promise<string[]> {
    return (await this.#listAll(SCHEDULED_PREFIX)).map(({ key }) => key.slice(SCHEDULED_PREFIX.length));
  }

  /** The credentials that belong to instances. */
  async leases(): Promise<(LeaseOwner & { readonly name: string })[]> {
    const entries = await this.#listAll(LEASE_PREFIX);
    return entries.flatMap(({ key, value }) => {
      const owner = parseOwner(value);
      return owner === undefined ? [] : [{ ...owner, name: key.slice(LEASE_PREFIX.length) }];
    });
  }

  /** Removes a secret with every value; `also` goes in the same commit. False when it was changed meanwhile. */
  async remove(name: string, also: RecordRemoval): Promise<boolean> {
    const found = await this.find(name);
    if (found === undefined) return true;
    const key = RECORD_PREFIX + name;
    const revision = await this.store.commit({
      conditions: [{ key, revision: found.revision }, ...also.conditions],
      writes: [
        ...recordRemovals(found.record, this.expiryWarnings),
        ...found.record.versions.map(({ id }) => versionRemoval(name, id)),
        ...also.writes,
      ],
    });
    return revision !== undefined;
  }

  /**
   * From where a new secret of this name counts its versions and promotions on: whoever knew one of that name that is gone must find nothing in the new one
   * that he has seen before.
   */
  async counted(name: string): Promise<number> {
    const entry = await this.store.get(GONE_PREFIX + name);
    if (entry === undefined) return 0;
    const counted = Number(Buffer.from(entry.value).toString('utf8'));
    if (Number.isSafeInteger(counted) && counted >= 0) return counted;
    throw new CorruptRecordError(`What is left of ${name}, which was removed,`, 'it does not parse', name);
  }

  /**
   * Changes a secret by compare-and-set: `edit` sees the record as it is (undefined when there is none) and is asked again when another
   * writer was first. Returning undefined from it leaves everything as it is.
   * @throws StoreContentionError when other writers keep winning
   */
  async change(
    name: string,
    edit: (record: SecretRecord | undefined) => RecordEdit | undefined | Promise<RecordEdit | undefined>,
  ): Promise<SecretRecord | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const found = await this.find(name);
      const wanted = await edit(found?.record);
      if (wanted === undefined) return found?.record;
      const { record, removed } = this.#tidied(wanted.record, found?.record);
      const key = RECORD_PREFIX + name;
      const guarded = wanted.writes ?? [];
      const revision = await this.store.commit({
        conditions: [
          { key, revision: found?.revision ?? 0 },
          ...distinct([...(wanted.conditions ?? []), ...guarded.flatMap(({ conditions = [] }) => conditions)]),
        ],
        writes: [
          ...recordWrites(found?.record, record, this.expiryWarnings),
          ...removed.map((id) => versionRemoval(name, id)),
          ...guarded.map(({ key: other, value }) => ({ key: other, value })),
        ],
      });
      if (revision !== undefined) return record;
      // It may have been the master key that changed.
      if (guarded.some(({ conditions }) => conditions !== undefined)) this.keys.invalidate();
    }
    throw new StoreContentionError(name);
  }

  /**
   * The write that stores a value, sealed, under a version of a secret. `keyId` is the secret's own master key, where it has one.
   * @throws ValueTooLargeError, KeyNotFoundError, KeyInactiveError, KeyExhaustedError
   */
  async sealValue(name: string, versionId: string, value: unknown, keyId?: string): Promise<GuardedWrite> {
    const plaintext = encodeValue(name, value, this.options.limits?.valueBytes ?? VALUE_LIMIT_BYTES);
    try {
      const entry = { key: valueKey(name, versionId), context: { secretName: name, versionId } };
      return await this.values.seal(entry, plaintext, keyId);
    } finally {
      plaintext.fill(0);
    }
  }

  /**
   * The value of a version, frozen.
   * @throws CorruptRecordError when the envelope does not open, or not as what it stands for
   * @throws KeyDisabledError, KeyDestroyedError
   */
  async openValue(name: string, versionId: string): Promise<unknown> {
    const plaintext = await this.openEncoded(name, versionId);
    try {
      return decodeValue(name, plaintext);
    } finally {
      plaintext.fill(0);
    }
  }

  /** The encoded value of a version, in a buffer that the caller zeroes. */
  openEncoded(name: string, versionId: string): Promise<Buffer> {
    return this.values.open(name, versionId);
  }

  /** Seals what stands under a key of the store and is no secret's value, such as the key of the policies: it opens under that key only. */
  sealEntry(storeKey: string, plaintext: Uint8Array): Promise<GuardedWrite> {
    return this.values.seal(sealedEntry(storeKey), plaintext);
  }

  /**
   * What `sealEntry` sealed for this key, in a buffer that the caller owns.
   * @throws CorruptRecordError, KeyMismatchError when it is not that
   */
  openEntry(storeKey: string, sealed: Uint8Array): Promise<Buffer> {
    return this.keyring.open(sealedEntry(storeKey).context, sealed, (cmk) => this.keys.admit(cmk));
  }

  /** Hints, by the name of the secret whose record or values may have changed; undefined for "any". */
  watch(onHint: (name: string | undefined) => void): () => void {
    return this.store.watch(
      ({ keys }: StoreHint) => {
        if (keys === undefined) onHint(undefined);
        for (const key of keys ?? []) if (key.startsWith(RECORD_PREFIX)) onHint(key.slice(RECORD_PREFIX.length));
      },
      [RECORD_PREFIX],
    );
  }

  async #listAll(prefix: string): Promise<StoreEntry[]> {
    const entries: StoreEntry[] = [];
    for (;;) {
      const after = entries.at(-1)?.key;
      const page = await this.store.list({ prefix, limit: PAGE, ...(after === undefined ? {} : { after }) });
      entries.push(...page);
      if (page.length < PAGE) return entries;
    }
  }

  /** What is left of a record when everything is dropped that nobody can want back. */
  #tidied(wanted: SecretRecord, before: SecretRecord | undefined): { record: SecretRecord; removed: string[] } {
    const { record, removed } = prune(planDestructions(wanted, this.options.clock.now()));
    const limit = this.options.limits?.versionsPerSecret ?? VERSION_LIMIT;
    // One that has more already, as after the limit was lowered, can still be worked with.
    if (record.versions.length > Math.max(limit, before?.versions.length ?? 0))
      throw new VersionLimitError(record.name, limit);
    return { record, removed };
  }

  #mustBeOpen(): { readonly keyring: Keyring; readonly values: SealedValues; readonly own: OwnEntries } {
    if (this.#opened === undefined) throw new CorruptRecordError('The store', 'it was used before it was opened');
    return this.#opened;
  }
}

/** Undefined for what cannot be read, which must not keep the others away. */
function parseOwner(value: Uint8Array): LeaseOwner | undefined {
  try {
    const owner: LeaseOwner = JSON.parse(Buffer.from(value).toString('utf8'));
    return typeof owner.of === 'string' && typeof owner.instanceId === 'string' ? owner : undefined;
  } catch {
    return undefined;
  }
}
