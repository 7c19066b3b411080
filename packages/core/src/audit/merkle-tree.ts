import { hash } from 'node:crypto';

/**
 * A Merkle tree of RFC 6962, section 2.1, of which only the roots of its perfect subtrees are kept, largest first. Immutable: appending makes a new one
 * that shares what it can, so that every record can keep the tree it left behind.
 */
export interface MerkleTree {
  /** Number of leaves. */
  readonly size: number;
  /** The rightmost perfect subtree; undefined for the empty tree. */
  readonly last: Subtree | undefined;
}

interface Subtree {
  /** 32 bytes, one a character: a tenth of the price of a Buffer. */
  readonly hash: string;
  readonly leaves: number;
  readonly left: Subtree | undefined;
}

const HASH = 'sha256';
const HASH_BYTES = 32;
const LEAF_MARK = 0;
const NODE_MARK = 1;

export const EMPTY_TREE: MerkleTree = { size: 0, last: undefined };

/** The tree with one more leaf: a line of the log, without its line feed. */
export function appendLeaf(tree: MerkleTree, line: Uint8Array): MerkleTree {
  const marked = Buffer.allocUnsafe(1 + line.byteLength);
  marked.set(line, 1);
  return appendMarkedLeaf(tree, marked);
}

/** The same for a line behind a byte left free for the mark, which saves a copy. */
export function appendMarkedLeaf(tree: MerkleTree, marked: Buffer): MerkleTree {
  marked[0] = LEAF_MARK;
  let root = hash(HASH, marked, 'binary');
  let leaves = 1;
  let left = tree.last;
  while (left !== undefined && left.leaves === leaves) {
    root = nodeHash(left.hash, root);
    leaves *= 2;
    left = left.left;
  }
  return { size: tree.size + 1, last: { hash: root, leaves, left } };
}

export function merkleRoot(tree: MerkleTree): Buffer {
  if (tree.last === undefined) return hash(HASH, '', 'buffer');
  let root = tree.last.hash;
  for (let left = tree.last.left; left !== undefined; left = left.left) root = nodeHash(left.hash, root);
  return Buffer.from(root, 'latin1');
}

/** The hashes of the perfect subtrees in hex, largest first: with the size, all there is to a tree. */
export function printTree(tree: MerkleTree): string[] {
  const hashes: string[] = [];
  for (let subtree = tree.last; subtree !== undefined; subtree = subtree.left)
    hashes.unshift(Buffer.from(subtree.hash, 'latin1').toString('hex'));
  return hashes;
}

/** The tree that `printTree` printed, or undefined when the hashes are not those of a tree of that size. */
export function parseTree(size: number, hashes: readonly string[]): MerkleTree | undefined {
  let last: Subtree | undefined;
  let left = size;
  let next = 0;
  for (let leaves = 2 ** Math.floor(Math.log2(Math.max(1, size))); leaves >= 1; leaves /= 2) {
    if (left < leaves) continue;
    const hex = hashes[next++];
    if (hex === undefined || !/^[0-9a-f]{64}$/.test(hex)) return undefined;
    last = { hash: Buffer.from(hex, 'hex').toString('latin1'), leaves, left: last };
    left -= leaves;
  }
  return next === hashes.length && left === 0 ? { size, last } : undefined;
}

function nodeHash(left: string, right: string): string {
  const node = Buffer.allocUnsafe(1 + 2 * HASH_BYTES);
  node[0] = NODE_MARK;
  node.write(left, 1, HASH_BYTES, 'latin1');
  node.write(right, 1 + HASH_BYTES, HASH_BYTES, 'latin1');
  return hash(HASH, node, 'binary');
}
