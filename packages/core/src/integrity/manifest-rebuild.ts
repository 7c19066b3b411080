import type { Randomness } from '../foundation/randomness.js';
import { StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreWrite } from '../store/store-driver.js';
import { copyKeyOf, groupOf, kindOf } from './entry-kinds.js';
import { findingAt, type IntegrityFinding } from './integrity-findings.js';
import type { IntegrityKeys } from './integrity-keys.js';
import { Leaf } from './manifest-leaf.js';
import { Inner, type ManifestNode, placeNode } from './manifest-node.js';
import { allEntries } from './manifest-nodes.js';
import { childPath, digitAt, FAN_OUT, type Position, positionOf } from './manifest-place.js';
import {
  type ManifestRoot,
  NODE_PREFIX,
  nodeKey,
  readRoot,
  ROOT_BYTES,
  ROOT_KEY,
  signRoot,
  TOP_KEY,
} from './manifest-root.js';
import { openRecord, recordPayload, sealRecord } from './record-seal.js';

/** A root made anew is this much further on, so that it is newer than whatever anybody has seen of the store that was put back. */
const LEAP = 2 ** 20;
const ATTEMPTS = 10;
/** Some stores take little more than a hundred writes in one commit. */
const TOGETHER = 50;

export interface RebuildParts {
  readonly store: StoreDriver;
  readonly keys: IntegrityKeys;
  readonly randomness: Randomness;
  /** The newest state known from elsewhere. */
  readonly seenSequence: number;
  /** `authentic`: what was written under this key. `anything`: seals whatever stands in the store. */
  readonly accepts: 'authentic' | 'anything';
}

export interface Rebuilt {
  readonly root: ManifestRoot;
  readonly revision: number;
  readonly fromSequence: number;
  readonly entries: number;
  /** What was left out. */
  readonly findings: readonly IntegrityFinding[];
}

interface Member {
  readonly key: string;
  readonly tag: Buffer;
  readonly position: Position;
}

/**
 * Makes a manifest of what stands in the store. The old one stays in force until the commit that puts the new one in its place.
 * @throws StoreContentionError when others keep writing
 */
export async function rebuildManifest(parts: RebuildParts): Promise<Rebuilt> {
  const { store, keys, randomness, seenSequence } = parts;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const [stored, top] = [await store.get(ROOT_KEY), await store.get(TOP_KEY)];
    const known = [stored?.value, top?.value.subarray(0, ROOT_BYTES)].map((value) => value && readRoot(keys, value));
    const fromSequence = Math.max(0, ...known.map((root) => root?.sequence ?? 0));
    const { members, findings, newest, isWhole } = await collect(parts);
    if (!isWhole) continue;
    const generation = 1 + randomness.below(0xffff_fffe);
    const rows: StoreWrite[] = [];
    const node = build(keys, generation, '', members, rows);
    for (let at = 0; at < rows.length; at += TOGETHER)
      await store.commit({ conditions: [], writes: rows.slice(at, at + TOGETHER) });
    const root = signRoot(keys, {
      generation,
      sequence: Math.max(fromSequence, seenSequence, newest) + LEAP,
      digest: placeNode(node, keys, generation, ''),
    });
    const revision = await store.commit({
      conditions: [{ key: ROOT_KEY, revision: stored?.revision ?? 0 }],
      writes: [
        { key: TOP_KEY, value: Buffer.concat([root.encoded, node.encoded]) },
        { key: ROOT_KEY, value: root.encoded },
      ],
    });
    await removeUnused(store, generation, revision !== undefined);
    if (revision !== undefined) return { root, revision, fromSequence, entries: members.length, findings };
  }
  throw new StoreContentionError('the manifest');
}

async function collect({ store, keys, accepts }: RebuildParts): Promise<{
  members: Member[];
  findings: IntegrityFinding[];
  newest: number;
  /** Nobody changed anything while it was looked at. */
  isWhole: boolean;
}> {
  const members: Member[] = [];
  const findings: IntegrityFinding[] = [];
  let newest = 0;
  let isWhole = true;
  for await (const page of allEntries(store)) {
    const adopted: { readonly key: string; readonly revision: number; readonly value: Buffer }[] = [];
    for (const { key, value, revision } of page) {
      const kind = kindOf(key);
      if (kind === 'plain' || kind === 'own') continue;
      const opened = openRecord(keys, key, value);
      let tag: Buffer;
      if (opened.state === 'authentic') {
        tag = opened.tag;
        newest = Math.max(newest, opened.sequence);
      } else if (accepts === 'anything') {
        const sealed = sealRecord(keys, key, recordPayload(value), 0);
        adopted.push({ key, revision, value: sealed.value });
        tag = sealed.tag;
      } else {
        findings.push(findingAt(opened.state === 'changed' ? 'record-changed' : 'record-downgraded', key));
        continue;
      }
      // A copy: a tag is a part of its record, and would keep all of it.
      if (kind === 'listed') members.push({ key, tag: Buffer.from(tag), position: positionOf(groupOf(key)) });
    }
    for (let at = 0; at < adopted.length; at += TOGETHER) {
      const some = adopted.slice(at, at + TOGETHER);
      const conditions = some.map(({ key, revision }) => ({ key, revision }));
      const copies = some.flatMap(({ key, value }) => {
        const copy = copyKeyOf(key);
        return copy === undefined ? [] : [{ key: copy, value }];
      });
      isWhole = (await store.commit({ conditions, writes: [...some, ...copies] })) !== undefined && isWhole;
    }
  }
  return { members, findings, newest, isWhole };
}

/** The node above these entries. The rows of all nodes below it are added to `rows`. */
function build(
  keys: IntegrityKeys,
  generation: number,
  path: string,
  members: readonly Member[],
  rows: StoreWrite[],
): ManifestNode {
  const leaf = Leaf.of(members.map(({ key, tag }) => [key, tag] as const));
  if (leaf !== undefined && !leaf.isTooLarge(path)) return leaf;
  const parts: Member[][] = Array.from({ length: FAN_OUT }, () => []);
  for (const member of members) parts[digitAt(member.position, path.length)]?.push(member);
  const children = parts.map((part, digit) => {
    if (part.length === 0) return undefined;
    const place = childPath(path, digit);
    const node = build(keys, generation, place, part, rows);
    rows.push({ key: nodeKey(generation, place), value: node.encoded });
    return placeNode(node, keys, generation, place);
  });
  return Inner.of(children);
}

/** Removes the nodes of the trees that are not in force: the others when this one is, itself when it never came to be. */
async function removeUnused(store: StoreDriver, generation: number, isInForce: boolean): Promise<void> {
  const isOwn = (key: string): boolean => key.startsWith(`${NODE_PREFIX}${generation}/`);
  for await (const page of allEntries(store, NODE_PREFIX)) {
    const gone = page.map(({ key }) => key).filter((key) => isOwn(key) !== isInForce);
    for (let at = 0; at < gone.length; at += TOGETHER) {
      const writes = gone.slice(at, at + TOGETHER).map((key) => ({ key, value: null }));
      // What is left over only takes up room.
      await store.commit({ conditions: [], writes }).catch(() => undefined);
    }
  }
}
