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

/** The tags of a group's entries, by their keys. Never changes. Of one that was read only the bytes are kept until somebody asks: most are only passed on. */
export class Group {
  #encoded: Buffer | undefined;
  #tags: ReadonlyMap<string, Buffer> | undefined;

  private constructor(
    readonly size: number,
    tags: ReadonlyMap<string, Buffer> | undefined,
    encoded: Buffer | undefined,
  ) {
    this.#tags = tags;
    this.#encoded = encoded;
  }

  static of(tags: ReadonlyMap<string, Buffer>): Group {
    return new Group(tags.size, tags, undefined);
  }

  /** `encoded` must be a whole group. */
  static read(encoded: Buffer, size: number): Group {
    return new Group(size, undefined, encoded);
  }

  get tags(): ReadonlyMap<string, Buffer> {
    this.#tags ??= decodeTags(this.#encoded);
    return this.#tags;
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

/** Kept as it is stored: an application has a few of them in memory for each secret it follows. */
export class Inner {
  readonly type = 'inner';

  constructor(readonly encoded: Buffer) {}

  /** By digit; undefined where nothing stands below. */
  static of(children: readonly (Buffer | undefined)[]): Inner {
    return new Inner(encodeInner(children));
  }

  /** The digest of a child. */
  child(digit: number): Buffer | undefined {
    const { encoded } = this;
    for (let at = 1; at < encoded.length; at += 1 + TAG_BYTES)
      if (encoded[at] === digit) return encoded.subarray(at + 1, at + 1 + TAG_BYTES);
    return undefined;
  }

  children(): (Buffer | undefined)[] {
    return Array.from({ length: FAN_OUT }, (_, digit) => this.child(digit));
  }
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
  return node.type === 'leaf' ? encodeLeaf(node) : node.encoded;
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
  for (let left = bytes.readUInt16BE(1); left > 0; left -= 1) {
    const begun = at;
    const nameLength = bytes.readUInt16BE(at);
    const name = bytes.toString('latin1', at + 2, (at += 2 + nameLength));
    const size = bytes.readUInt16BE(at);
    at += 2;
    for (let entry = 0; entry < size; entry += 1) {
      at += 1 + bytes.readUInt8(at);
      at += 2 + bytes.readUInt16BE(at) + TAG_BYTES;
    }
    groups.set(name, Group.read(bytes.subarray(begun, at), size));
  }
  return at === bytes.length ? { type: 'leaf', groups } : undefined;
}

function decodeTags(bytes: Buffer | undefined): Map<string, Buffer> {
  const tags = new Map<string, Buffer>();
  if (bytes === undefined) return tags;
  let at = 2 + bytes.readUInt16BE(0);
  const name = bytes.toString('latin1', 2, at);
  const text = (length: number): string => bytes.toString('latin1', at, (at += length));
  let left = bytes.readUInt16BE(at);
  at += 2;
  for (; left > 0; left -= 1) {
    const before = text(bytes.readUInt8(at++));
    at += 2;
    const after = text(bytes.readUInt16BE(at - 2));
    tags.set(before + name + after, bytes.subarray(at, (at += TAG_BYTES)));
  }
  return tags;
}

function encodeInner(children: readonly (Buffer | undefined)[]): Buffer {
  const bytes = Buffer.allocUnsafe(
    1 + children.reduce((sum, child) => sum + (child === undefined ? 0 : 1 + TAG_BYTES), 0),
  );
  bytes[0] = INNER;
  let at = 1;
  for (const [digit, digest] of children.entries()) {
    if (digest === undefined) continue;
    bytes[at] = digit;
    bytes.set(digest, at + 1);
    at += 1 + TAG_BYTES;
  }
  return bytes;
}

function decodeInner(bytes: Buffer): Inner | undefined {
  if ((bytes.length - 1) % (1 + TAG_BYTES) !== 0) return undefined;
  for (let at = 1; at < bytes.length; at += 1 + TAG_BYTES) if ((bytes[at] ?? 0) >= FAN_OUT) return undefined;
  return new Inner(bytes);
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
  return { type: 'leaf', groups: new Map([...groups].map(([name, tags]) => [name, Group.of(tags)])) };
}
