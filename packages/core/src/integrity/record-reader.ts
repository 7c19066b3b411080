import { isSecretsError } from '../foundation/errors.js';
import type { StoreDriver, StoreEntry, StoreListOptions } from '../store/store-driver.js';
import { copyKeyOf, kindOf } from './entry-kinds.js';
import { findingAt, type IntegrityFindingKind, TamperedRecordError } from './integrity-findings.js';
import type { IntegrityReports } from './integrity-reports.js';
import type { KnownRoot, Manifest } from './manifest.js';
import { openRecord } from './record-seal.js';

/** An entry as those above see it, or what is wrong with it. */
export type Verdict =
  | { readonly entry: StoreEntry | undefined }
  | {
      readonly fault: IntegrityFindingKind;
      /** Whatever others write, it is not right. */
      readonly isCertain: boolean;
      /** Of a record that was written here later than the root, as it was read, knows of: the entry. */
      readonly newer?: { readonly entry: StoreEntry; readonly sequence: number };
    };

interface Page {
  readonly entries: readonly StoreEntry[];
  /** The last key that was looked at. */
  readonly last: string | undefined;
  readonly isEnd: boolean;
}

const NO_BYTES = new Uint8Array(0);
const ATTEMPTS = 100;

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
        return (await this.#fromCopy(key, tag, stored)) ?? verdict;
      }
      const after = await manifest.refresh();
      // It was written since the root was read, by somebody who holds the key: nothing of before this call is as new.
      if (verdict.newer !== undefined && verdict.newer.sequence <= after.root.sequence)
        return { entry: verdict.newer.entry };
      stored = await store.get(key);
      known = await manifest.refresh();
    }
    return { fault: 'record-rolled-back', isCertain: false };
  }

  /** The entry out of its copy, where it has one and the manifest names that very state of it; it is put right. */
  async #fromCopy(key: string, tag: Buffer | undefined, stored: StoreEntry | undefined): Promise<Verdict | undefined> {
    const copyKey = copyKeyOf(key);
    const copy = copyKey === undefined || tag === undefined ? undefined : await this.store.get(copyKey);
    if (copy === undefined) return undefined;
    const opened = openRecord(this.manifest.keys, key, copy.value);
    if (opened.state !== 'authentic' || tag?.equals(opened.tag) !== true) return undefined;
    const conditions = [{ key, revision: stored?.revision ?? 0 }];
    const revision = await this.store.commit({ conditions, writes: [{ key, value: copy.value }] });
    // Somebody was first: what stands there now is looked at by itself.
    if (revision === undefined) return this.settle(key);
    this.reports.repaired(key);
    return { entry: { key, value: opened.payload, revision } };
  }

  judge(key: string, stored: StoreEntry | undefined, tag: Buffer | undefined, { root }: KnownRoot): Verdict {
    if (stored === undefined)
      return tag === undefined ? { entry: undefined } : { fault: 'record-hidden', isCertain: false };
    const opened = openRecord(this.manifest.keys, key, stored.value);
    if (opened.state !== 'authentic')
      return { fault: opened.state === 'changed' ? 'record-changed' : 'record-downgraded', isCertain: true };
    if (tag?.equals(opened.tag) === true) return { entry: { key, value: opened.payload, revision: stored.revision } };
    // A record is never newer than the root that lists it, unless the manifest was put back to an older one.
    if (opened.sequence > root.sequence) {
      const entry = { key, value: opened.payload, revision: stored.revision };
      return { fault: 'store-rolled-back', isCertain: false, newer: { entry, sequence: opened.sequence } };
    }
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
    const found: StoreEntry[] = [];
    let { after } = options;
    for (;;) {
      const limit = options.limit - found.length;
      const { entries, last, isEnd } = await this.#page({
        prefix: options.prefix,
        limit,
        ...(after === undefined ? {} : { after }),
      });
      found.push(...entries);
      // A page that is short means the end to those above, so what was left out makes room for what comes after.
      if (isEnd || found.length >= options.limit) return found;
      after = last;
    }
  }

  async #page(options: StoreListOptions): Promise<Page> {
    const stored = await this.store.list(options);
    const listed = stored.filter(({ key }) => kindOf(key) === 'listed');
    if (listed.length === 0)
      return pageOf(
        options,
        stored,
        stored.map((entry) => this.#unlisted(entry)),
      );
    const known = await this.manifest.refresh();
    const { tags } = await this.#tags(listed, known);
    const verdicts = stored.map((entry) => this.#judgeListed(entry, tags, known));
    const isRight = verdicts.every((verdict) => 'entry' in verdict || verdict.isCertain);
    return isRight
      ? pageOf(options, stored, await this.#settleAll(stored, verdicts))
      : this.#pageAfter(listed, options);
  }

  /** First what the manifest says, and then the list: what is in it is as the manifest says, or newer. */
  async #pageAfter(listed: readonly StoreEntry[], options: StoreListOptions): Promise<Page> {
    const { tags, known } = await this.#tags(listed);
    const stored = await this.store.list(options);
    const after = await this.manifest.refresh();
    const verdicts = stored.map((entry): Verdict => {
      const verdict = this.#judgeListed(entry, tags, known);
      if ('entry' in verdict || verdict.newer === undefined) return verdict;
      return verdict.newer.sequence <= after.root.sequence ? { entry: verdict.newer.entry } : verdict;
    });
    return pageOf(options, stored, await this.#settleAll(stored, verdicts));
  }

  /** What the manifest says of these entries, all of it in one state. What stands below a node that is lost cannot be proven; the others can. */
  async #tags(
    listed: readonly StoreEntry[],
    from?: KnownRoot,
  ): Promise<{ readonly tags: ReadonlyMap<string, Buffer | undefined>; readonly known: KnownRoot }> {
    const { manifest } = this;
    const all = await unlessCorrupt(
      manifest.consult(async (known) => {
        const found = listed.map(async ({ key }) => [key, await manifest.nodes.tag(known.root, key)] as const);
        return { tags: new Map(await Promise.all(found)), known };
      }, from),
    );
    if (all !== undefined) return all;
    const known = await manifest.refresh();
    const tags = new Map<string, Buffer | undefined>();
    for (const { key } of listed)
      tags.set(key, await unlessCorrupt(manifest.consult(({ root }) => manifest.nodes.tag(root, key), known)));
    return { tags, known };
  }

  #judgeListed(entry: StoreEntry, tags: ReadonlyMap<string, Buffer | undefined>, known: KnownRoot): Verdict {
    if (kindOf(entry.key) !== 'listed') return { entry: this.#unlisted(entry) };
    return this.judge(entry.key, entry, tags.get(entry.key), known);
  }

  /** The entries to show. What is wrong is looked at by itself, so that it is reported for what it is. */
  async #settleAll(stored: readonly StoreEntry[], verdicts: readonly Verdict[]): Promise<(StoreEntry | undefined)[]> {
    const shown: (StoreEntry | undefined)[] = [];
    for (const [index, { key, revision }] of stored.entries()) {
      const listed = verdicts[index];
      const verdict =
        listed === undefined || 'fault' in listed ? ((await unlessCorrupt(this.settle(key))) ?? listed) : listed;
      if (verdict === undefined || 'entry' in verdict) shown.push(verdict?.entry);
      else if (verdict.fault !== 'record-resurrected') shown.push({ key, value: NO_BYTES, revision });
    }
    return shown;
  }

  #unlisted(entry: StoreEntry): StoreEntry {
    return kindOf(entry.key) === 'sealed' ? this.openSealed(entry) : entry;
  }
}

function pageOf(
  { limit }: StoreListOptions,
  stored: readonly StoreEntry[],
  shown: readonly (StoreEntry | undefined)[],
): Page {
  const entries = shown.flatMap((entry) => entry ?? []);
  return { entries, last: stored.at(-1)?.key, isEnd: stored.length < limit };
}

async function unlessCorrupt<R>(work: Promise<R>): Promise<R | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isSecretsError(error, 'RECORD_CORRUPT')) return undefined;
    throw error;
  }
}
