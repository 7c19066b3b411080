import { TAG_BYTES } from './integrity-keys.js';

export const NOTHING = new Uint8Array(0);

/** A node of the manifest as it is stored, and its digest behind it. */
export abstract class StoredNode {
  constructor(
    readonly bytes: Buffer,
    /** Otherwise it is what a node says of one group. */
    readonly isWhole = true,
  ) {}

  /** What stands in the store. */
  get encoded(): Buffer {
    return this.bytes.subarray(0, this.end);
  }

  /** What the node above, or the root, knows it by, once that was worked out. */
  get digest(): Buffer {
    return this.bytes.subarray(this.end);
  }

  /** Where the digest begins. */
  protected get end(): number {
    return this.bytes.length - TAG_BYTES;
  }
}

/** Bytes to put in place of those from `at` to `end`. */
export interface Edit {
  readonly at: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

/**
 * Room for a node: its bytes as they are stored, and behind them its digest. Of its own memory, since nodes are kept for long: one that was cut from a larger
 * piece would keep all of it.
 */
export function roomForNode(length: number): Buffer {
  return Buffer.allocUnsafeSlow(length + TAG_BYTES);
}

/** A node with these edits, which must be in order and apart from each other. What its digest is has to be worked out. */
export function spliceNode(node: Buffer, edits: readonly Edit[]): Buffer {
  const end = node.length - TAG_BYTES;
  let length = end;
  for (const edit of edits) length += edit.bytes.length - (edit.end - edit.at);
  const spliced = roomForNode(length);
  let read = 0;
  let written = 0;
  for (const edit of edits) {
    written += node.copy(spliced, written, read, edit.at);
    spliced.set(edit.bytes, written);
    written += edit.bytes.length;
    read = edit.end;
  }
  node.copy(spliced, written, read, end);
  return spliced;
}

/** What is left of a node, with the digest of the whole. */
export function partOfNode(node: Buffer, edits: readonly Edit[]): Buffer {
  const part = spliceNode(node, edits);
  part.set(node.subarray(node.length - TAG_BYTES), part.length - TAG_BYTES);
  return part;
}
