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
  readonly hash: Buffer;
  readonly leaves: number;
  readonly left: Subtree | undefined;
}

const HASH_BYTES = 32;
const LEAF_MARK = '\0';
const NODE_MARK = 1;

export const EMPTY_TREE: MerkleTree = { size: 0, last: undefined };

/** The tree with one more leaf: a line of the log, without its line feed. */
export function appendLeaf(tree: MerkleTree, line: string | Buffer): MerkleTree {
  const leaf = typeof line === 'string' ? LEAF_MARK + line : Buffer.concat([Buffer.from(LEAF_MARK), line]);
  let root: Buffer = hash('sha256', leaf, 'buffer');
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
  if (tree.last === undefined) return hash('sha256', '', 'buffer');
  let root = tree.last.hash;
  for (let left = tree.last.left; left !== undefined; left = left.left) root = nodeHash(left.hash, root);
  return root;
}

/** The hashes of the perfect subtrees in hex, largest first: with the size, all there is to a tree. */
export function printTree(tree: MerkleTree): string[] {
  const hashes: string[] = [];
  for (let subtree = tree.last; subtree !== undefined; subtree = subtree.left)
    hashes.unshift(subtree.hash.toString('hex'));
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
    last = { hash: Buffer.from(hex, 'hex'), leaves, left: last };
    left -= leaves;
  }
  return next === hashes.length && left === 0 ? { size, last } : undefined;
}

function nodeHash(left: Buffer, right: Buffer): Buffer {
  const node = Buffer.allocUnsafe(1 + 2 * HASH_BYTES);
  node[0] = NODE_MARK;
  node.set(left, 1);
  node.set(right, 1 + HASH_BYTES);
  return hash('sha256', node, 'buffer');
}
