import type { Clock } from '../foundation/clock.js';
import { CorruptRecordError, isSecretsError, SecretNotFoundError, StoreContentionError } from '../foundation/errors.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { KeyProvider } from '../encryption/key-provider.js';
import type { Keyring } from '../encryption/keyring.js';
import type { StoreIntegrity } from '../integrity/store-integrity.js';
import { openStoreRecord } from '../integrity/store-opening.js';
import type { StoreCondition, StoreDriver, StoreEntry, StoreHint, StoreWrite } from '../store/store-driver.js';
import { decodeValue, encodeValue } from './secret-value.js';
import { isLeased, type LeaseOwner, parseSecretRecord, prune, type SecretRecord } from './secret-record.js';

const RECORD_PREFIX = 'secret/';
const VALUE_PREFIX = 'value/';
/** One empty entry for each secret with a schedule, so that starting costs what is scheduled and not what is stored. */
const SCHEDULED_PREFIX = 'scheduled/';
/** One empty entry for each credential of an instance, so that finding those of the dead costs what is leased. */
const LEASE_PREFIX = 'lease/';
/** What is sealed under a key of the store; not a legal secret name, so that it can never be passed off as a secret. */
const ENTRY = '#entry';
const ATTEMPTS = 50;
const PAGE = 500;

/** What an edit wants committed: the new record, and whatever must happen in the same commit. */
export interface RecordEdit {
  readonly record: SecretRecord;
  readonly conditions?: readonly StoreCondition[];
  readonly writes?: readonly StoreWrite[];
}

/** What must hold, and what else goes, when a secret is removed. */
export interface RecordRemoval {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
}

export interface VersionStoreOptions {
  readonly store: StoreDriver;
  /** What `store` is sealed by; without it, what stands in the store is believed. */
  readonly integrity?: StoreIntegrity;
  readonly keys: KeyProvider;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
}

/**
 * Secrets, versions and stages over a store driver: records in JSON, each value sealed in an envelope of its own. Every change of a secret
 * is one compare-and-set commit on its record.
 */
export class VersionStore {
  readonly store: StoreDriver;
  #keyring: Keyring | undefined;

  constructor(private readonly options: VersionStoreOptions) {
    this.store = options.store;
  }

  /**
   * Opens the store and the keys and makes sure that they belong together.
   * @throws KeyMismatchError when the store was sealed under another key
   */
  async open(): Promise<void> {
    const { store, integrity, keys, randomness, ids, clock } = this.options;
    await keys.open();
    await store.open();
    const parts = { keys, randomness, newStoreId: ids.next(), now: clock.now() };
    const opened = integrity === undefined ? await openStoreRecord({ ...parts, store }) : await integrity.open(parts);
    this.#keyring = opened.keyring;
  }

  async close(): Promise<void> {
    const { store, integrity, keys } = this.options;
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
        { key, value: null },
        { key: SCHEDULED_PREFIX + name, value: null },
        { key: LEASE_PREFIX + name, value: null },
        ...found.record.versions.map(({ id }) => versionRemoval(name, id)),
        ...also.writes,
      ],
    });
    return revision !== undefined;
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
      const { record, removed } = prune(wanted.record);
      const key = RECORD_PREFIX + name;
      const revision = await this.store.commit({
        conditions: [{ key, revision: found?.revision ?? 0 }, ...(wanted.conditions ?? [])],
        writes: [
          { key, value: Buffer.from(JSON.stringify(record)) },
          ...scheduleWrites(found?.record, record),
          ...(found === undefined && record.lease !== undefined
            ? [{ key: LEASE_PREFIX + name, value: Buffer.from(JSON.stringify(record.lease)) }]
            : []),
          ...removed.map((id) => versionRemoval(name, id)),
          ...(wanted.writes ?? []),
        ],
      });
      if (revision !== undefined) return record;
    }
    throw new StoreContentionError(name);
  }

  /** The write that stores a value, sealed, under a version of a secret. */
  async sealValue(name: string, versionId: string, value: unknown): Promise<StoreWrite> {
    const plaintext = encodeValue(name, value);
    try {
      return {
        key: valueKey(name, versionId),
        value: await this.#opened().seal({ secretName: name, versionId }, plaintext),
      };
    } finally {
      plaintext.fill(0);
    }
  }

  /**
   * The value of a version, frozen.
   * @throws CorruptRecordError when the envelope does not open, or not as what it stands for
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
  async openEncoded(name: string, versionId: string): Promise<Buffer> {
    const entry = await this.store.get(valueKey(name, versionId));
    if (entry === undefined)
      throw new CorruptRecordError(`Version ${versionId} of ${name}`, 'its value is missing', name);
    try {
      return await this.#opened().open({ secretName: name, versionId }, entry.value);
    } catch (error) {
      // The keys have opened this store, so what does not open under them is not what was put here.
      if (!isSecretsError(error, 'KEY_MISMATCH') && !isSecretsError(error, 'RECORD_CORRUPT')) throw error;
      throw new CorruptRecordError(`Version ${versionId} of ${name}`, error.message, name);
    }
  }

  /** Seals what stands under a key of the store and is no secret's value, such as the key of the policies: it opens under that key only. */
  sealEntry(storeKey: string, plaintext: Uint8Array): Promise<Buffer> {
    return this.#opened().seal({ secretName: ENTRY, versionId: storeKey }, plaintext);
  }

  /**
   * What `sealEntry` sealed for this key, in a buffer that the caller owns.
   * @throws CorruptRecordError, KeyMismatchError when it is not that
   */
  openEntry(storeKey: string, sealed: Uint8Array): Promise<Buffer> {
    return this.#opened().open({ secretName: ENTRY, versionId: storeKey }, sealed);
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

  #opened(): Keyring {
    if (this.#keyring === undefined) throw new CorruptRecordError('The store', 'it was used before it was opened');
    return this.#keyring;
  }
}

function scheduleWrites(before: SecretRecord | undefined, after: SecretRecord): StoreWrite[] {
  // A secret of leases has nothing to rotate itself: its leases have the schedule.
  const isScheduled = (record: SecretRecord): boolean => record.rotation?.schedule !== undefined && !isLeased(record);
  const scheduled = isScheduled(after);
  if (scheduled === (before !== undefined && isScheduled(before))) return [];
  return [{ key: SCHEDULED_PREFIX + after.name, value: scheduled ? Buffer.alloc(0) : null }];
}

/** The write that destroys the value of a version. */
export function versionRemoval(name: string, versionId: string): StoreWrite {
  return { key: valueKey(name, versionId), value: null };
}

function valueKey(name: string, versionId: string): string {
  // A colon can stand in neither part, so no two versions share a key.
  return `${VALUE_PREFIX}${name}:${versionId}`;
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
