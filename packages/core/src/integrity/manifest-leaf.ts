import { groupOf } from './entry-kinds.js';
import { TAG_BYTES } from './integrity-keys.js';
import { type Edit, NOTHING, partOfNode, roomForNode, spliceNode, StoredNode } from './manifest-bytes.js';
import { digitAt, FAN_OUT, LONGEST_PATH, type Look, type Position } from './manifest-place.js';

/*
 * A leaf of the manifest names the entries of its groups with their tags:
 *
 *   1, groups (2), and for each in order: length (2) and group, entries (2), and for each in order of their keys: length (1) and what stands before the group in its
 *   key, length (2) and what stands after it, tag (16)
 */
export const LEAF = 1;
const HEAD_BYTES = 3;
/** A leaf of more bytes than this is cut, unless they are all of one group. */
const LEAF_LIMIT = 2048;
/** More groups than this are more than that, however short their names are. */
export const MOST_GROUPS = 128;

/** What a change does to one group: a new tag for each key written, or undefined for one removed. */
export interface GroupChange extends Look {
  readonly tags: readonly (readonly [key: string, tag: Buffer | undefined])[];
}

/** Where something stands in a leaf, or would have to. */
interface Place {
  readonly at: number;
  readonly isThere: boolean;
}

/**
 * A leaf as it is stored, never taken apart: one group is looked for among the others, and a change is put into a copy. Never changes itself. Its bytes are proven by the
 * digest that the node above has of them before anything is looked for.
 */
export class Leaf extends StoredNode {
  get type(): 'leaf' {
    return 'leaf';
  }

  static empty(): Leaf {
    const bytes = roomForNode(HEAD_BYTES);
    bytes[0] = LEAF;
    bytes.writeUInt16BE(0, 1);
    return new Leaf(bytes);
  }

  /** A leaf with these entries; undefined when they are too many for one. */
  static of(entries: Iterable<readonly [key: string, tag: Buffer]>): Leaf | undefined {
    const groups = new Map<string, [string, Buffer][]>();
    for (const [key, tag] of entries) {
      const group = groupOf(key);
      const tags = groups.get(group);
      if (tags === undefined) groups.set(group, [[key, tag]]);
      else tags.push([key, tag]);
      if (groups.size > MOST_GROUPS) return undefined;
    }
    return Leaf.empty().with([...groups].map(([group, tags]) => ({ group, position: '', tags })));
  }

  get isEmpty(): boolean {
    return this.#groups === 0;
  }

  /** Whether it has to be cut at `path`. */
  isTooLarge(path: string): boolean {
    return this.end > LEAF_LIMIT && this.#groups > 1 && path.length < LONGEST_PATH;
  }

  /** Whether it says what there is of a group. */
  tells({ group }: Look): boolean {
    return this.isWhole || this.#seekGroup(group, HEAD_BYTES).isThere;
  }

  /** As much of it as says what there is of a group that is there. */
  part({ group }: Look): Leaf {
    const { at, isThere } = this.#seekGroup(group, HEAD_BYTES);
    const end = isThere ? this.#groupEnd(at) : at;
    const edits = [
      { at: 1, end: at, bytes: twoBytes(Number(isThere)) },
      { at: end, end: this.end, bytes: NOTHING },
    ];
    return new Leaf(partOfNode(this.bytes, edits), false);
  }

  /** The tag of an entry. */
  tag(group: string, key: string): Buffer | undefined {
    const { at, isThere } = this.#seekGroup(group, HEAD_BYTES);
    if (!isThere) return undefined;
    const entry = this.#seekEntry(at, group, key, key.indexOf(group), at + 4 + group.length, 0);
    if (!entry.isThere) return undefined;
    const end = this.#entryEnd(entry.at);
    return this.bytes.subarray(end - TAG_BYTES, end);
  }

  /** The keys of all entries, or of one group's. */
  keys(only?: string): string[] {
    const keys: string[] = [];
    for (let at = HEAD_BYTES; at < this.end;) {
      const group = this.#nameAt(at);
      let entry = at + 4 + group.length;
      for (let left = this.#entriesOf(at); left > 0; left -= 1, entry = this.#entryEnd(entry))
        if (only === undefined || only === group) keys.push(this.#keyAt(entry, group));
      at = entry;
    }
    return keys;
  }

  /** The leaf after these changes, which are of one group each. */
  with(changes: readonly GroupChange[]): Leaf {
    const inOrder = changes.length < 2 ? changes : changes.toSorted((one, other) => (one.group < other.group ? -1 : 1));
    const edits: Edit[] = [];
    let groups = this.#groups;
    let from = HEAD_BYTES;
    for (const change of inOrder) {
      const { at, isThere } = this.#seekGroup(change.group, from);
      from = at;
      groups += isThere ? this.#editGroup(at, change, edits) : addGroup(at, change, edits);
    }
    if (groups !== this.#groups) edits.unshift({ at: 1, end: HEAD_BYTES, bytes: twoBytes(groups) });
    return new Leaf(spliceNode(this.bytes, edits));
  }

  /** Its groups by the digit at which their positions leave a node at this depth; undefined where there is none. */
  cut(depth: number, positionOf: (group: string) => Position): (Leaf | undefined)[] {
    const parts: Buffer[][] = Array.from({ length: FAN_OUT }, () => []);
    for (let at = HEAD_BYTES; at < this.end;) {
      const end = this.#groupEnd(at);
      parts[digitAt(positionOf(this.#nameAt(at)), depth)]?.push(this.bytes.subarray(at, end));
      at = end;
    }
    return parts.map((groups) => {
      if (groups.length === 0) return undefined;
      const head = { at: 1, end: HEAD_BYTES, bytes: Buffer.concat([twoBytes(groups.length), ...groups]) };
      return new Leaf(spliceNode(Leaf.empty().bytes, [head]));
    });
  }

  get #groups(): number {
    return this.#twoAt(1);
  }

  /** Edits a group that is there; -1 when nothing is left of it, 0 otherwise. */
  #editGroup(start: number, { group, tags }: GroupChange, edits: Edit[]): number {
    const before = this.#entriesOf(start);
    let entries = before;
    const inner: Edit[] = [];
    let at = start + 4 + group.length;
    let passed = 0;
    for (const [key, tag] of inOrderOfKeys(tags)) {
      const lead = key.indexOf(group);
      const entry = this.#seekEntry(start, group, key, lead, at, passed);
      ({ at, passed } = entry);
      const end = entry.isThere ? this.#entryEnd(at) : at;
      if (entry.isThere && tag !== undefined) inner.push({ at: end - TAG_BYTES, end, bytes: tag });
      else if (entry.isThere) inner.push({ at, end, bytes: NOTHING });
      else if (tag !== undefined) inner.push({ at, end, bytes: encodeEntry(group, key, lead, tag) });
      entries += Number(tag !== undefined) - Number(entry.isThere);
    }
    if (entries === 0) {
      edits.push({ at: start, end: this.#groupEnd(start), bytes: NOTHING });
      return -1;
    }
    const count = start + 2 + group.length;
    if (entries !== before) edits.push({ at: count, end: count + 2, bytes: twoBytes(entries) });
    edits.push(...inner);
    return 0;
  }

  /** From the beginning of some group on. */
  #seekGroup(group: string, from: number): Place {
    const { bytes } = this;
    let at = from;
    while (at < this.end) {
      const length = this.#twoAt(at);
      const order = compareText(bytes, at + 2, length, group, 0);
      if (order >= 0) return { at, isThere: order === 0 };
      at = this.#groupEnd(at);
    }
    return { at, isThere: false };
  }

  /** From an entry of the group at `start` on, before which so many have been passed. `lead`: how much of the key stands before the group's name. */
  #seekEntry(
    start: number,
    group: string,
    key: string,
    lead: number,
    from: number,
    before: number,
  ): Place & { readonly passed: number } {
    const entries = this.#entriesOf(start);
    let at = from;
    for (let passed = before; passed < entries; passed += 1) {
      const order = this.#compareKey(at, group, key, lead);
      if (order >= 0) return { at, passed, isThere: order === 0 };
      at = this.#entryEnd(at);
    }
    return { at, passed: entries, isThere: false };
  }

  #compareKey(at: number, group: string, key: string, lead: number): number {
    const { bytes } = this;
    const before = bytes[at] ?? 0;
    const shared = Math.min(before, lead);
    for (let index = 0; index < shared; index += 1) {
      const difference = (bytes[at + 1 + index] ?? 0) - key.charCodeAt(index);
      if (difference !== 0) return difference;
    }
    if (before !== lead) return this.#keyAt(at, group) < key ? -1 : 1;
    return compareText(bytes, at + 3 + before, this.#twoAt(at + 1 + before), key, lead + group.length);
  }

  #twoAt(at: number): number {
    return ((this.bytes[at] ?? 0) << 8) | (this.bytes[at + 1] ?? 0);
  }

  #nameAt(group: number): string {
    return this.bytes.toString('latin1', group + 2, group + 2 + this.#twoAt(group));
  }

  #entriesOf(group: number): number {
    return this.#twoAt(group + 2 + this.#twoAt(group));
  }

  #groupEnd(group: number): number {
    let at = group + 4 + this.#twoAt(group);
    for (let left = this.#entriesOf(group); left > 0; left -= 1) at = this.#entryEnd(at);
    return at;
  }

  #entryEnd(entry: number): number {
    const after = entry + 1 + (this.bytes[entry] ?? 0);
    return after + 2 + this.#twoAt(after) + TAG_BYTES;
  }

  #keyAt(entry: number, group: string): string {
    const after = entry + 1 + (this.bytes[entry] ?? 0);
    const before = this.bytes.toString('latin1', entry + 1, after);
    return before + group + this.bytes.toString('latin1', after + 2, after + 2 + this.#twoAt(after));
  }
}

/** A group that is not there yet; 1 when it has entries, 0 otherwise. */
function addGroup(at: number, { group, tags }: GroupChange, edits: Edit[]): number {
  const entries = inOrderOfKeys(tags).flatMap(([key, tag]) =>
    tag === undefined ? [] : [encodeEntry(group, key, key.indexOf(group), tag)],
  );
  if (entries.length === 0) return 0;
  const head = Buffer.allocUnsafe(4 + group.length);
  head.writeUInt16BE(group.length, 0);
  head.write(group, 2, 'latin1');
  head.writeUInt16BE(entries.length, 2 + group.length);
  edits.push({ at, end: at, bytes: Buffer.concat([head, ...entries]) });
  return 1;
}

function inOrderOfKeys(tags: GroupChange['tags']): GroupChange['tags'] {
  return tags.length < 2 ? tags : tags.toSorted(([one], [other]) => (one < other ? -1 : 1));
}

function encodeEntry(group: string, key: string, lead: number, tag: Buffer): Buffer {
  const after = lead + group.length;
  const bytes = Buffer.allocUnsafe(3 + key.length - group.length + TAG_BYTES);
  bytes[0] = lead;
  bytes.write(key.slice(0, lead), 1, 'latin1');
  bytes.writeUInt16BE(key.length - after, 1 + lead);
  bytes.write(key.slice(after), 3 + lead, 'latin1');
  bytes.set(tag, bytes.length - TAG_BYTES);
  return bytes;
}

function twoBytes(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16BE(value, 0);
  return bytes;
}

/** How the text at `at` sorts against that part of `text` which begins at `from`: below 0 before it, 0 when they are the same. */
function compareText(bytes: Buffer, at: number, length: number, text: string, from: number): number {
  const wanted = text.length - from;
  const shared = Math.min(length, wanted);
  for (let index = 0; index < shared; index += 1) {
    const difference = (bytes[at + index] ?? 0) - text.charCodeAt(from + index);
    if (difference !== 0) return difference;
  }
  return length - wanted;
}
