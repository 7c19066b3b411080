import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import { type ChainHead, emptyChain, parseRecord, type SealedRecord } from './audit-chain.js';
import { AuditLogDamagedError, AuditOptionsError } from './audit-errors.js';
import { parseFileHeader, sealFileHeader } from './audit-file-header.js';
import type { AuditLine, AuditReader } from './audit-reader.js';
import type { AuditSink, AuditSinkContext, AuditSinkState } from './audit-sink.js';

export interface AuditStoreOptions {
  /** Opened and closed by whoever made it. */
  readonly store: StoreDriver;
  /** The origin of the log. */
  readonly origin: string;
}

/** As many writes as every store takes in one commit, with room for the head (etcd: 128 operations unless configured otherwise). */
const RECORDS_A_COMMIT = 100;
const RECORDS_A_PAGE = 500;
const DIGITS = 16;

/**
 * Keeps the log in a store: with the SQL store driver this is the sink for a table, with others one for Redis or etcd. One entry a record, under
 * `audit/<origin>/records/<sequence>` with `~` for the slashes of the origin and the number padded to 16 digits, and one for the head, which every commit holds
 * against what it was: a second writer is noticed.
 */
export function auditStore(options: AuditStoreOptions): AuditSink & { readonly reader: AuditReader } {
  return new AuditStore(options);
}

/** Reads what `auditStore` wrote. */
export function auditStoreReader({ store, origin }: AuditStoreOptions): AuditReader {
  const keys = new AuditStoreKeys(origin);
  const toLine = ({ key, value }: StoreEntry): AuditLine => ({
    file: store.name,
    line: keys.sequenceOf(key),
    bytes: Buffer.from(value),
    isTerminated: true,
  });
  return {
    name: `the store ${store.name}`,
    async *lines(after = 0) {
      for (let cursor = keys.record(after); ;) {
        const entries = await store.list({ prefix: keys.records, after: cursor, limit: RECORDS_A_PAGE });
        if (entries.length > 0) yield entries.map(toLine);
        if (entries.length < RECORDS_A_PAGE) return;
        cursor = entries.at(-1)?.key ?? cursor;
      }
    },
    async *linesBackwards(before = Number.POSITIVE_INFINITY) {
      const head = await store.get(keys.head);
      const newest = (head && parseFileHeader(Buffer.from(head.value))?.first) ?? 1;
      // A store lists forwards only; since numbers have no gaps, a page from below is the page wanted.
      for (let end = Math.min(before, newest); end > 1; end -= RECORDS_A_PAGE) {
        const after = keys.record(Math.max(0, end - 1 - RECORDS_A_PAGE));
        const entries = await store.list({ prefix: keys.records, after, limit: RECORDS_A_PAGE });
        yield entries
          .filter(({ key }) => key < keys.record(end))
          .toReversed()
          .map(toLine);
      }
    },
  };
}

class AuditStoreKeys {
  readonly records: string;
  readonly head: string;

  constructor(origin: string) {
    const base = `audit/${origin.replaceAll('/', '~')}`;
    this.records = `${base}/records/`;
    this.head = `${base}/head`;
  }

  record(sequence: number): string {
    return this.records + String(sequence).padStart(DIGITS, '0');
  }

  sequenceOf(key: string): number {
    return Number(key.slice(this.records.length));
  }
}

class AuditStore implements AuditSink {
  readonly name: string;
  readonly reader: AuditReader;
  readonly #keys: AuditStoreKeys;
  #context: AuditSinkContext | undefined;
  #head: ChainHead | undefined;
  #headRevision = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: AuditStoreOptions) {
    this.name = `the audit log in the store ${options.store.name}`;
    this.#keys = new AuditStoreKeys(options.origin);
    this.reader = auditStoreReader(options);
  }

  async open(context: AuditSinkContext): Promise<AuditSinkState> {
    const [key] = context.keys;
    if (key === undefined || key.origin !== this.options.origin) {
      throw new AuditOptionsError(
        `auditStore was made for the log ${this.options.origin}, which is not the one that opens it.`,
      );
    }
    this.#context = context;
    await this.#readHead();
    const head = this.#head ?? emptyChain(key);
    this.#head = head;
    return { head, repairedBytes: 0 };
  }

  append(records: readonly SealedRecord[]): Promise<void> {
    const done = this.#turn.then(() => this.#append(records));
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    this.#context = undefined;
  }

  async #append(records: readonly SealedRecord[]): Promise<void> {
    for (let start = 0; start < records.length; start += RECORDS_A_COMMIT) {
      await this.#commit(records.slice(start, start + RECORDS_A_COMMIT));
    }
  }

  async #commit(records: readonly SealedRecord[]): Promise<void> {
    const [key] = this.#context?.keys ?? [];
    const head = this.#head;
    if (key === undefined || head === undefined || this.#context === undefined) {
      throw new AuditOptionsError(`${this.name} is not open.`);
    }
    const fresh = records.filter(({ sequence }) => sequence > head.sequence);
    const last = fresh.at(-1);
    if (last === undefined) return;
    const next = sealFileHeader(key, 1, last, new Date(this.#context.clock.now()).toISOString());
    const revision = await this.options.store.commit({
      conditions: [{ key: this.#keys.head, revision: this.#headRevision }],
      writes: [
        { key: this.#keys.head, value: Buffer.from(next) },
        ...fresh.map(({ sequence, bytes }) => ({ key: this.#keys.record(sequence), value: bytes.subarray(0, -1) })),
      ],
    });
    if (revision !== undefined) {
      this.#headRevision = revision;
      this.#head = { sequence: last.sequence, mac: last.mac, tree: last.tree };
      return;
    }
    // Either an earlier commit of ours got through though its answer did not, or somebody else writes here.
    await this.#readHead();
    const reached = fresh.find(({ sequence }) => sequence === this.#head?.sequence);
    if (reached === undefined || reached.mac !== this.#head?.mac) {
      throw new AuditLogDamagedError(this.name, 'is being written by another process as well');
    }
    await this.#commit(fresh);
  }

  async #readHead(): Promise<void> {
    const entry = await this.options.store.get(this.#keys.head);
    if (entry === undefined) return;
    const bytes = Buffer.from(entry.value);
    const header = parseFileHeader(bytes);
    const key = this.#context?.keys.find(({ id }) => id === header?.keyId);
    if (header === undefined || key?.verifies(bytes) !== true) {
      throw new AuditLogDamagedError(this.name, 'has a head that was changed, or made with another key');
    }
    const sequence = header.first - 1;
    const last = await this.options.store.get(this.#keys.record(sequence));
    if (last === undefined || parseRecord(Buffer.from(last.value))?.mac !== header.previous) {
      throw new AuditLogDamagedError(this.name, `does not end with the record ${sequence} that was written last`);
    }
    this.#head = { sequence, mac: header.previous, tree: header.tree };
    this.#headRevision = entry.revision;
  }
}
