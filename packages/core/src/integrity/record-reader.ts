import { isSecretsError } from '../foundation/errors.js';
import type { StoreDriver, StoreEntry, StoreListOptions } from '../store/store-driver.js';
import { kindOf } from './entry-kinds.js';
import { findingAt, type IntegrityFindingKind, TamperedRecordError } from './integrity-findings.js';
import type { IntegrityReports } from './integrity-reports.js';
import type { KnownRoot, Manifest } from './manifest.js';
import { openRecord } from './record-seal.js';

/** An entry as those above see it, or what is wrong with it. */
export type Verdict =
  | { readonly entry: StoreEntry | undefined }
  | { readonly fault: IntegrityFindingKind; readonly isCertain: boolean };

const NO_BYTES = new Uint8Array(0);
const ATTEMPTS = 100;
/** After so many tries a list is put together from single reads, which come to an end whatever others write. */
const LIST_ATTEMPTS = 8;

/** Reads entries, and believes those only that the manifest names. */
export class RecordReader {
  constructor(
    private readonly store: StoreDriver,
    private readonly manifest: Manifest,
    private readonly reports: IntegrityReports,
  ) {}

  /**
   * An entry that the manifest lists, as it was written.
   * @throws TamperedRecordError
   */
  async get(key: string): Promise<StoreEntry | undefined> {
    const verdict = await this.settle(key);
    if ('entry' in verdict) return verdict.entry;
    throw new TamperedRecordError(findingAt(verdict.fault, key));
  }

  /** What there is to say about an entry once nothing is under way any more; what is wrong is reported. */
  async settle(key: string): Promise<Verdict> {
    const { store, manifest } = this;
    let [stored, known] = await Promise.all([store.get(key), manifest.refresh()]);
    let tag: Buffer | undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const before = tag;
      tag = await manifest.consult(({ root }) => manifest.nodes.tag(root, key), known);
      const verdict = this.judge(key, stored, tag, known);
      if ('entry' in verdict) return verdict;
      // Otherwise the entry may just have been read before, and the manifest after, somebody's change.
      const isSettled = attempt > 0 && (before === undefined ? tag === undefined : tag?.equals(before));
      if (verdict.isCertain || isSettled) {
        this.reports.found(findingAt(verdict.fault, key), stored?.revision ?? 0);
        return verdict;
      }
      stored = await store.get(key);
      known = await manifest.refresh();
    }
    return { fault: 'record-rolled-back', isCertain: false };
  }

  judge(key: string, stored: StoreEntry | undefined, tag: Buffer | undefined, { root }: KnownRoot): Verdict {
    if (stored === undefined)
      return tag === undefined ? { entry: undefined } : { fault: 'record-hidden', isCertain: false };
    const opened = openRecord(this.manifest.keys, key, stored.value);
    if (opened.state !== 'authentic')
      return { fault: opened.state === 'changed' ? 'record-changed' : 'record-downgraded', isCertain: true };
    if (tag?.equals(opened.tag) === true)
      return { entry: { key, value: opened.payload, revision: stored.revision } };
    // A record is never newer than the root that lists it, unless the manifest was put back to an older one.
    if (opened.sequence > root.sequence) return { fault: 'store-rolled-back', isCertain: false };
    return { fault: tag === undefined ? 'record-resurrected' : 'record-rolled-back', isCertain: false };
  }

  /** An entry that is only MACed. One that is not right has no contents: whoever wrote it, it says nothing. */
  openSealed(stored: StoreEntry): StoreEntry {
    const { key, revision, value } = stored;
    const opened = openRecord(this.manifest.keys, key, value);
    if (opened.state === 'authentic') return { key, value: opened.payload, revision };
    this.reports.found(findingAt(opened.state === 'changed' ? 'record-changed' : 'record-downgraded', key), revision);
    return { key, value: NO_BYTES, revision };
  }

  /**
   * Entries in order. One that was tampered with has no contents, so that it keeps none of the others away; one that was removed and put back is left out.
   */
  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    for (let attempt = 0; attempt < LIST_ATTEMPTS; attempt += 1) {
      const stored = await this.store.list(options);
      if (!stored.some(({ key }) => kindOf(key) === 'listed')) return stored.map((entry) => this.#unlisted(entry));
      const known = await this.manifest.refresh();
      const isLast = attempt === LIST_ATTEMPTS - 1;
      const found = await this.#judgeAll(stored, known, isLast);
      if (found !== undefined) return found.flatMap((entry) => entry ?? []);
    }
    return [];
  }

  /** Undefined when something does not fit together that may do so at the next look. */
  async #judgeAll(
    stored: readonly StoreEntry[],
    known: KnownRoot,
    isLast: boolean,
  ): Promise<(StoreEntry | undefined)[] | undefined> {
    const { manifest } = this;
    const tags = new Map<string, Buffer | undefined>();
    const listed = stored.filter(({ key }) => kindOf(key) === 'listed');
    // What stands below a node that is lost cannot be proven; the others can.
    await Promise.all(
      listed.map(async ({ key }) =>
        tags.set(key, await unlessCorrupt(manifest.consult(({ root }) => manifest.nodes.tag(root, key), known))),
      ),
    );
    const found: (StoreEntry | undefined)[] = [];
    for (const entry of stored) {
      const { key, revision } = entry;
      if (kindOf(key) !== 'listed') {
        found.push(this.#unlisted(entry));
        continue;
      }
      let verdict = this.judge(key, entry, tags.get(key), known);
      if ('fault' in verdict) {
        const isRace = !verdict.isCertain && !isLast;
        verdict = (await unlessCorrupt(this.settle(key))) ?? verdict;
        // It is right when looked at by itself: the list was read while somebody wrote.
        if (isRace && 'entry' in verdict) return undefined;
      }
      if ('entry' in verdict) found.push(verdict.entry);
      else if (verdict.fault !== 'record-resurrected') found.push({ key, value: NO_BYTES, revision });
    }
    return found;
  }

  #unlisted(entry: StoreEntry): StoreEntry {
    return kindOf(entry.key) === 'sealed' ? this.openSealed(entry) : entry;
  }
}

async function unlessCorrupt<R>(work: Promise<R>): Promise<R | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isSecretsError(error, 'RECORD_CORRUPT')) return undefined;
    throw error;
  }
}
