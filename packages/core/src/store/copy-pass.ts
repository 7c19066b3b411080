import { createHash, type Hash } from 'node:crypto';
import { MOVE_PREFIX } from './move-records.js';
import type { StoreDriver, StoreEntry, StoreWrite } from './store-driver.js';
import { STORE_LIST_LIMIT } from './store-request.js';

const PAGE = 200;
/** Some stores take little more than a hundred writes in one commit, or 1.5 MiB with everything around. */
const BATCH_WRITES = 100;
const BATCH_BYTES = 524_288;

/** What one reading of both stores has come to. */
export interface CopyPass {
  /** In the old store. */
  readonly entries: number;
  /** Entries that differed and were copied, or removed from the new store. */
  readonly changed: number;
  /** SHA-256 over all keys and values of each side, as read. */
  readonly digests: { readonly from: string; readonly to: string };
}

export interface CopyPassParts {
  readonly from: StoreDriver;
  readonly to: StoreDriver;
  /** Commits to the new store, as long as this process is the one to do that. */
  readonly write: (writes: readonly StoreWrite[]) => Promise<void>;
  /** Before each page; may throw. */
  readonly beforePage: () => Promise<void>;
}

/**
 * Reads both stores through, side by side in the order of their keys, and makes the new one what the old one is. While others write to the old one, what comes of it is a little
 * behind; a pass that changes nothing while nobody writes is the proof that both are the same.
 */
export async function copyPass({ from, to, write, beforePage }: CopyPassParts): Promise<CopyPass> {
  const hashes = { from: createHash('sha256'), to: createHash('sha256') };
  let [entries, changed, after]: [number, number, string | undefined] = [0, 0, undefined];
  for (let isLast = false; !isLast;) {
    await beforePage();
    const pages: [StoreEntry[], StoreEntry[]] = await Promise.all([pageOf(from, after, PAGE), pageOf(to, after, PAGE)]);
    const [page, first] = pages;
    isLast = page.length < PAGE;
    const until: string | undefined = isLast ? undefined : page.at(-1)?.key;
    const there = await upTo(to, until, first, PAGE);
    const wanted = page.filter(isOfTheStore);
    const found = there.filter(isOfTheStore);
    for (const entry of wanted) absorb(hashes.from, entry);
    for (const entry of found) absorb(hashes.to, entry);
    const writes = differences(wanted, found);
    for (const batch of batches(writes)) await write(batch);
    entries += wanted.length;
    changed += writes.length;
    after = until;
  }
  return { entries, changed, digests: { from: hashes.from.digest('hex'), to: hashes.to.digest('hex') } };
}

/** Whether a store has no entry but those of a move. */
export async function isEmpty(store: StoreDriver): Promise<boolean> {
  return !(await store.list({ prefix: '', limit: STORE_LIST_LIMIT })).some(isOfTheStore);
}

function pageOf(store: StoreDriver, after: string | undefined, limit: number): Promise<StoreEntry[]> {
  return store.list({ prefix: '', limit, ...(after === undefined ? {} : { after }) });
}

/** What of a store stands up to a key, or to its end, given its first page. */
async function upTo(
  store: StoreDriver,
  until: string | undefined,
  first: readonly StoreEntry[],
  limit: number,
): Promise<StoreEntry[]> {
  const found = [...first];
  let size = first.length;
  while (size === limit) {
    const last = found.at(-1)?.key ?? '';
    if (until !== undefined && last >= until) break;
    const page = await pageOf(store, last, limit);
    found.push(...page);
    size = page.length;
  }
  return until === undefined ? found : found.filter(({ key }) => key <= until);
}

function isOfTheStore({ key }: StoreEntry): boolean {
  return !key.startsWith(MOVE_PREFIX);
}

function differences(wanted: readonly StoreEntry[], found: readonly StoreEntry[]): StoreWrite[] {
  const there = new Map(found.map(({ key, value }) => [key, value]));
  const writes: StoreWrite[] = [];
  for (const { key, value } of wanted) {
    const copy = there.get(key);
    if (copy === undefined || Buffer.compare(copy, value) !== 0) writes.push({ key, value });
    there.delete(key);
  }
  for (const key of there.keys()) writes.push({ key, value: null });
  return writes;
}

function* batches(writes: readonly StoreWrite[]): Generator<StoreWrite[]> {
  let batch: StoreWrite[] = [];
  let bytes = 0;
  for (const write of writes) {
    const size = write.key.length + (write.value?.length ?? 0);
    if (batch.length > 0 && (batch.length === BATCH_WRITES || bytes + size > BATCH_BYTES)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(write);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Lengths stand before key and value, so that no two stores come to the same bytes. */
function absorb(hash: Hash, { key, value }: StoreEntry): void {
  const lengths = Buffer.alloc(6);
  lengths.writeUInt16BE(key.length, 0);
  lengths.writeUInt32BE(value.length, 2);
  hash.update(lengths).update(key, 'latin1').update(value);
}
