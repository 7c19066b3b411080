import { hash } from 'node:crypto';
import { groupOf } from './entry-kinds.js';
import { type IntegrityKeys, mac, TAG_BYTES } from './integrity-keys.js';

/*
 * The manifest is a tree over the hashes of groups (a secret and all that belongs to it): a leaf names the entries of its groups with their tags, an inner node
 * the digests of up to 32 children. It grows where a leaf gets too large, so that its depth is logarithmic, and a change touches one path.
 *
 *   leaf   1, groups (2), and for each in order: length (2) and group, entries (2), and for each in order: length (1) and what stands before the group in its key,
 *          length (2) and what stands after it, tag (16)
 *   inner  2, and for each child in order: digit (1), digest (16)
 */
const LEAF = 1;
const INNER = 2;
const DIGIT_BITS = 5;
export const FAN_OUT = 32;
const DIGITS = '0123456789abcdefghijklmnopqrstuv';
/** A leaf with more entries than this is cut, unless they are all of one group. */
const LEAF_LIMIT = 64;
/** As many digits as the part of the hash that is used has. */
const LONGEST_PATH = 32;

/** The tags of a group's entries, by their keys. Never changes, so its bytes are made once. */
export class Group {
  #encoded: Buffer | undefined;

  constructor(readonly tags: ReadonlyMap<string, Buffer>) {}

  get size(): number {
    return this.tags.size;
  }

  encoded(name: string): Buffer {
    this.#encoded ??= encodeGroup(name, this.tags);
    return this.#encoded;
  }
}

export interface Leaf {
  readonly type: 'leaf';
  readonly groups: ReadonlyMap<string, Group>;
}

export interface Inner {
  readonly type: 'inner';
  /** By digit; undefined where nothing stands below. */
  readonly children: readonly (Buffer | undefined)[];
}

export type ManifestNode = Leaf | Inner;

export const EMPTY_LEAF: Leaf = { type: 'leaf', groups: new Map() };

/** Where a group stands in the tree: its digits from the root down. */
export type Position = readonly number[];

export function positionOf(group: string): Position {
  const digest = hash('sha256', group, 'buffer');
  const digits: number[] = [];
  let bits = 0;
  let held = 0;
  for (let at = 0; digits.length < LONGEST_PATH; at += 1) {
    held = ((held << 8) | (digest[at] ?? 0)) & 0xfff;
    bits += 8;
    while (bits >= DIGIT_BITS && digits.length < LONGEST_PATH) {
      bits -= DIGIT_BITS;
      digits.push((held >> bits) & (FAN_OUT - 1));
    }
  }
  return digits;
}

/** The path below `path` at a digit. Paths are the digits from the root down, as text. */
export function childPath(path: string, digit: number): string {
  return path + (DIGITS[digit] ?? '');
}

/** Whether a group stands below `path`. */
export function standsBelow(path: string, position: Position): boolean {
  for (let depth = 0; depth < path.length; depth += 1) if (path[depth] !== DIGITS[position[depth] ?? 0]) return false;
  return true;
}

export function isTooLarge({ groups }: Leaf, path: string): boolean {
  if (groups.size <= 1 || path.length >= LONGEST_PATH) return false;
  let entries = 0;
  for (const group of groups.values()) entries += group.size;
  return entries > LEAF_LIMIT;
}

export function encodeNode(node: ManifestNode): Buffer {
  return node.type === 'leaf' ? encodeLeaf(node) : encodeInner(node);
}

/** Undefined for bytes that are no node; those of one may still be of another place, which the digest tells. */
export function decodeNode(bytes: Buffer): ManifestNode | undefined {
  try {
    if (bytes[0] === LEAF) return decodeLeaf(bytes);
    return bytes[0] === INNER ? decodeInner(bytes) : undefined;
  } catch {
    // Reading beyond the end.
    return undefined;
  }
}

/** What the node above, or the root, knows a node by: bound to its place and to the generation of the tree. */
export function nodeDigest({ node }: IntegrityKeys, generation: number, path: string, encoded: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(6 + path.length);
  head.writeUInt32BE(generation, 0);
  head.writeUInt16BE(path.length, 4);
  head.write(path, 6, 'latin1');
  return mac(node, head, encoded).subarray(0, TAG_BYTES);
}

function encodeLeaf({ groups }: Leaf): Buffer {
  const parts = [...groups]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, group]) => group.encoded(name));
  const head = Buffer.allocUnsafe(3);
  head[0] = LEAF;
  head.writeUInt16BE(parts.length, 1);
  return Buffer.concat([head, ...parts]);
}

function encodeGroup(group: string, tags: ReadonlyMap<string, Buffer>): Buffer {
  const entries = [...tags].sort(([one], [other]) => (one < other ? -1 : 1));
  let length = 4 + group.length;
  for (const [key] of entries) length += 3 + key.length - group.length + TAG_BYTES;
  const bytes = Buffer.allocUnsafe(length);
  let at = bytes.writeUInt16BE(group.length, 0);
  at += bytes.write(group, at, 'latin1');
  at = bytes.writeUInt16BE(entries.length, at);
  for (const [key, tag] of entries) {
    const before = key.indexOf(group);
    at = bytes.writeUInt8(before, at);
    at += bytes.write(key.slice(0, before), at, 'latin1');
    const after = key.slice(before + group.length);
    at = bytes.writeUInt16BE(after.length, at);
    at += bytes.write(after, at, 'latin1');
    bytes.set(tag, at);
    at += TAG_BYTES;
  }
  return bytes;
}

function decodeLeaf(bytes: Buffer): Leaf | undefined {
  const groups = new Map<string, Group>();
  let at = 3;
  const text = (length: number): string => bytes.toString('latin1', at, (at += length));
  for (let left = bytes.readUInt16BE(1); left > 0; left -= 1) {
    const groupLength = bytes.readUInt16BE(at);
    at += 2;
    const group = text(groupLength);
    const tags = new Map<string, Buffer>();
    let entries = bytes.readUInt16BE(at);
    at += 2;
    for (; entries > 0; entries -= 1) {
      const beforeLength = bytes.readUInt8(at);
      at += 1;
      const before = text(beforeLength);
      const afterLength = bytes.readUInt16BE(at);
      at += 2;
      const after = text(afterLength);
      tags.set(before + group + after, bytes.subarray(at, (at += TAG_BYTES)));
    }
    groups.set(group, new Group(tags));
  }
  return at === bytes.length ? { type: 'leaf', groups } : undefined;
}

function encodeInner({ children }: Inner): Buffer {
  const bytes = Buffer.allocUnsafe(1 + FAN_OUT * (1 + TAG_BYTES));
  bytes[0] = INNER;
  let at = 1;
  for (let digit = 0; digit < FAN_OUT; digit += 1) {
    const digest = children[digit];
    if (digest === undefined) continue;
    bytes[at] = digit;
    bytes.set(digest, at + 1);
    at += 1 + TAG_BYTES;
  }
  return bytes.subarray(0, at);
}

function decodeInner(bytes: Buffer): Inner | undefined {
  if ((bytes.length - 1) % (1 + TAG_BYTES) !== 0) return undefined;
  const children: (Buffer | undefined)[] = Array.from({ length: FAN_OUT }, () => undefined);
  for (let at = 1; at < bytes.length; at += 1 + TAG_BYTES) {
    const digit = bytes[at] ?? 0;
    if (digit >= FAN_OUT) return undefined;
    children[digit] = bytes.subarray(at + 1, at + 1 + TAG_BYTES);
  }
  return { type: 'inner', children };
}

/** A leaf with these entries. */
export function leafOf(entries: Iterable<readonly [key: string, tag: Buffer]>): Leaf {
  const groups = new Map<string, Map<string, Buffer>>();
  for (const [key, tag] of entries) {
    const name = groupOf(key);
    const tags = groups.get(name);
    if (tags === undefined) groups.set(name, new Map([[key, tag]]));
    else tags.set(key, tag);
  }
  return { type: 'leaf', groups: new Map([...groups].map(([name, tags]) => [name, new Group(tags)])) };
}
