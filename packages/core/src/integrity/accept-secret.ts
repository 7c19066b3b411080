import { StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import { groupOf, keysOfSecret } from './entry-kinds.js';
import { findingAt, type IntegrityFinding } from './integrity-findings.js';
import type { KnownRoot, Manifest } from './manifest.js';
import { ManifestChange, type ManifestUpdate } from './manifest-change.js';
import { allEntries } from './manifest-nodes.js';
import { ROOT_KEY } from './manifest-root.js';
import { openRecord } from './record-seal.js';

const ATTEMPTS = 50;

export interface AcceptedSecret {
  readonly fromSequence: number;
  readonly toSequence: number;
  /** What was not written under the key of the store, and is gone. */
  readonly removed: readonly IntegrityFinding[];
}

interface Wanted {
  readonly stored: ReadonlyMap<string, StoreEntry | undefined>;
  readonly removed: readonly IntegrityFinding[];
  readonly update: ManifestUpdate;
  readonly known: KnownRoot;
}

/**
 * Has the manifest name what stands in the store of one secret, and removes what was not written under the key of the store.
 * @throws StoreContentionError when others keep writing
 */
export async function acceptSecret(
  store: StoreDriver,
  manifest: Manifest,
  secretName: string,
): Promise<AcceptedSecret> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const { stored, removed, update, known } = await manifest.consult((root) =>
      want(store, manifest, root, secretName),
    );
    const conditions = [...stored].map(([key, entry]) => ({ key, revision: entry?.revision ?? 0 }));
    const written = await store.commit({
      conditions: [{ key: ROOT_KEY, revision: known.revision }, ...conditions],
      writes: [...removed.map(({ key }) => ({ key, value: null })), ...update.writes],
    });
    if (written === undefined) continue;
    manifest.advance(update, written);
    return { fromSequence: known.root.sequence, toSequence: update.root.sequence, removed };
  }
  throw new StoreContentionError(secretName);
}

async function want(store: StoreDriver, manifest: Manifest, known: KnownRoot, secretName: string): Promise<Wanted> {
  const { nodes, keys } = manifest;
  const { root } = known;
  const leaf = await nodes.leaf(root, secretName);
  const stored = await entriesOf(store, secretName, leaf?.keys(secretName) ?? []);
  const tags = new Map<string, Buffer | undefined>();
  const removed: IntegrityFinding[] = [];
  for (const [key, entry] of stored) {
    const opened = entry && openRecord(keys, key, entry.value);
    tags.set(key, opened?.state === 'authentic' ? opened.tag : undefined);
    if (opened !== undefined && opened.state !== 'authentic')
      removed.push(findingAt(opened.state === 'changed' ? 'record-changed' : 'record-downgraded', key));
  }
  const update = await new ManifestChange(nodes, keys, root).apply(tags, root.sequence + 1);
  return { stored, removed, update, known };
}

/** What is stored of a secret, and what should be. */
async function entriesOf(
  store: StoreDriver,
  secretName: string,
  listed: readonly string[],
): Promise<Map<string, StoreEntry | undefined>> {
  const { keys, values } = keysOfSecret(secretName);
  const found = new Map<string, StoreEntry | undefined>();
  for (const key of new Set([...keys, ...listed])) {
    const entry = await store.get(key);
    if (entry !== undefined || listed.includes(key)) found.set(key, entry);
  }
  for await (const page of allEntries(store, values))
    for (const entry of page) if (groupOf(entry.key) === secretName) found.set(entry.key, entry);
  return found;
}
