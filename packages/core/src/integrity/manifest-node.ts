import { type IntegrityKeys, TAG_BYTES } from './integrity-keys.js';
import { type Edit, NOTHING, partOfNode, roomForNode, spliceNode, StoredNode } from './manifest-bytes.js';
import { Leaf, LEAF } from './manifest-leaf.js';
import { digitAt, FAN_OUT, type Look } from './manifest-place.js';

/*
 * The manifest is a tree over the hashes of groups (a secret and all that belongs to it): a leaf names the entries of its groups with their tags, an inner node
 * the digests of up to 32 children. It grows where a leaf gets too large, so that its depth is logarithmic, and a change touches one path.
 *
 *   inner  2, and for each child in order: digit (1), digest (16)
 */
const INNER = 2;
const CHILD_BYTES = 1 + TAG_BYTES;

/** What a change does to one child: the digest of what stands there now, or undefined when nothing does any more. */
export interface ChildChange {
  readonly digit: number;
  readonly digest: Buffer | undefined;
}

/** Kept as it is stored, as a leaf is: an application has a few of them in memory for each secret it follows. */
export class Inner extends StoredNode {
  get type(): 'inner' {
    return 'inner';
  }

  /** By digit; undefined where nothing stands below. */
  static of(children: readonly (Buffer | undefined)[]): Inner {
    const empty = roomForNode(1);
    empty[0] = INNER;
    return new Inner(empty).with(children.map((digest, digit) => ({ digit, digest })));
  }

  get isEmpty(): boolean {
    return this.end === 1;
  }

  /** Whether it says what stands below it towards a group, when it stands so deep itself. */
  tells({ position }: Look, depth: number): boolean {
    const digit = digitAt(position, depth);
    return this.isWhole || this.#isAt(this.#seek(digit), digit);
  }

  /** As much of it as says what stands below it towards a group for which something does. */
  part({ position }: Look, depth: number): Inner {
    const digit = digitAt(position, depth);
    const at = this.#seek(digit);
    const end = this.#isAt(at, digit) ? at + CHILD_BYTES : at;
    const edits = [
      { at: 1, end: at, bytes: NOTHING },
      { at: end, end: this.end, bytes: NOTHING },
    ];
    return new Inner(partOfNode(this.bytes, edits), false);
  }

  /** The digest of a child. */
  child(digit: number): Buffer | undefined {
    const at = this.#seek(digit);
    return this.#isAt(at, digit) ? this.bytes.subarray(at + 1, at + CHILD_BYTES) : undefined;
  }

  /** The digests of all children by digit; undefined where nothing stands below. */
  children(): (Buffer | undefined)[] {
    return Array.from({ length: FAN_OUT }, (_, digit) => this.child(digit));
  }

  /** The node after these changes, in the order of their digits. */
  with(changes: readonly ChildChange[]): Inner {
    const edits: Edit[] = [];
    for (const { digit, digest } of changes) {
      const at = this.#seek(digit);
      const isThere = this.#isAt(at, digit);
      if (digest !== undefined && isThere) edits.push({ at: at + 1, end: at + CHILD_BYTES, bytes: digest });
      else if (digest !== undefined) edits.push({ at, end: at, bytes: Buffer.concat([Buffer.from([digit]), digest]) });
      else if (isThere) edits.push({ at, end: at + CHILD_BYTES, bytes: NOTHING });
    }
    return new Inner(spliceNode(this.bytes, edits));
  }

  /** Where a child stands, or would have to. */
  #seek(digit: number): number {
    let at = 1;
    while (at < this.end && (this.bytes[at] ?? 0) < digit) at += CHILD_BYTES;
    return at;
  }

  #isAt(at: number, digit: number): boolean {
    return at < this.end && this.bytes[at] === digit;
  }
}

export type ManifestNode = Leaf | Inner;

/** A node as it stands in the store, in memory of its own; undefined for bytes that are none. Whether they are the right ones is told by their digest. */
export function readNode(encoded: Uint8Array): ManifestNode | undefined {
  const bytes = roomForNode(encoded.length);
  bytes.set(encoded);
  if (encoded[0] === LEAF) return new Leaf(bytes);
  return encoded[0] === INNER && (encoded.length - 1) % CHILD_BYTES === 0 ? new Inner(bytes) : undefined;
}

/** Works out what a node is known by, which is bound to its place and to the generation of the tree, and writes it behind the node. */
export function placeNode(node: ManifestNode, { node: key }: IntegrityKeys, generation: number, path: string): Buffer {
  const head = Buffer.allocUnsafe(6 + path.length);
  head.writeUInt32BE(generation, 0);
  head.writeUInt16BE(path.length, 4);
  head.write(path, 6, 'latin1');
  key.write(node.bytes, node.bytes.length - TAG_BYTES, TAG_BYTES, head, node.encoded);
  return node.digest;
}
