import type { StoreWrite } from '../store/store-driver.js';
import { groupOf } from './entry-kinds.js';
import type { IntegrityKeys } from './integrity-keys.js';
import { type GroupChange, Leaf, MOST_GROUPS } from './manifest-leaf.js';
import { encodedNode, Inner, type ManifestNode, placeNode } from './manifest-node.js';
import type { ManifestNodes } from './manifest-nodes.js';
import { childPath, digitAt } from './manifest-place.js';
import { type ManifestRoot, nodeKey, ROOT_KEY, signRoot, TOP_KEY } from './manifest-root.js';

/** What a commit does to the manifest: a new tag for each key written, or undefined for one removed. */
export type TagChanges = ReadonlyMap<string, Buffer | undefined>;

/** What has to be written, and what is to be kept once it is. */
export interface ManifestUpdate {
  readonly root: ManifestRoot;
  readonly writes: readonly StoreWrite[];
  readonly nodes: readonly { readonly path: string; readonly node: ManifestNode }[];
}

/** Works one change into the tree: the nodes on the paths of the groups it touches, and nothing else. */
export class ManifestChange {
  readonly #writes: StoreWrite[] = [];
  readonly #nodes: { path: string; node: ManifestNode }[] = [];

  constructor(
    private readonly nodes: ManifestNodes,
    private readonly keys: IntegrityKeys,
    private readonly root: ManifestRoot,
  ) {}

  /** @throws NodeMismatch */
  async apply(changes: TagChanges, sequence: number): Promise<ManifestUpdate> {
    const { generation } = this.root;
    const top = (await this.#change('', this.root.digest, this.#byGroup(changes))) ?? Leaf.empty();
    const digest = placeNode(top, this.keys, generation, '');
    const root = signRoot(this.keys, { generation, sequence, digest });
    this.#nodes.push({ path: '', node: top });
    this.#writes.push(
      { key: TOP_KEY, value: Buffer.concat([root.encoded, encodedNode(top)]) },
      { key: ROOT_KEY, value: root.encoded },
    );
    return { root, writes: this.#writes, nodes: this.#nodes };
  }

  #byGroup(changes: TagChanges): GroupChange[] {
    const groups = new Map<string, GroupChange & { readonly tags: [string, Buffer | undefined][] }>();
    for (const [key, tag] of changes) {
      const group = groupOf(key);
      const change = groups.get(group);
      if (change === undefined) groups.set(group, { group, position: this.nodes.position(group), tags: [[key, tag]] });
      else change.tags.push([key, tag]);
    }
    return [...groups.values()];
  }

  /** The node in place of the one at `path`; undefined when nothing is left below it. */
  async #change(path: string, digest: Buffer, changes: readonly GroupChange[]): Promise<ManifestNode | undefined> {
    const node = this.nodes.cached(path, digest) ?? (await this.nodes.load(this.root.generation, path, digest));
    return node.type === 'leaf' ? this.#changeLeaf(path, node, changes) : this.#changeInner(path, node, changes);
  }

  async #changeInner(path: string, node: Inner, changes: readonly GroupChange[]): Promise<Inner | undefined> {
    const parts = byDigit(changes, path.length);
    const changeChild = async ([digit, below]: readonly [number, readonly GroupChange[]]) => {
      const child = node.child(digit);
      const place = childPath(path, digit);
      const next =
        child === undefined ? this.#changeLeaf(place, Leaf.empty(), below) : await this.#change(place, child, below);
      return { digit, digest: this.#put(place, next, child !== undefined) };
    };
    const [first] = parts;
    const changed =
      first !== undefined && parts.length === 1
        ? [await changeChild(first)]
        : await Promise.all(parts.map(changeChild));
    const after = node.with(changed);
    return after.isEmpty ? undefined : after;
  }

  #changeLeaf(path: string, leaf: Leaf, changes: readonly GroupChange[]): ManifestNode | undefined {
    // Also those of a whole import are never put into one leaf.
    if (changes.length > MOST_GROUPS) return this.#cut(path, leaf, changes);
    const after = leaf.with(changes);
    if (after.isEmpty) return undefined;
    return after.isTooLarge(path) ? this.#cut(path, after, []) : after;
  }

  #cut(path: string, leaf: Leaf, changes: readonly GroupChange[]): Inner | undefined {
    const parts = new Map(byDigit(changes, path.length));
    const children = leaf
      .cut(path.length, (group) => this.nodes.position(group))
      .map((part = Leaf.empty(), digit) => {
        const place = childPath(path, digit);
        return this.#put(place, this.#changeLeaf(place, part, parts.get(digit) ?? []), false);
      });
    const node = Inner.of(children);
    return node.isEmpty ? undefined : node;
  }

  /** Notes what to write for a node, and returns its digest. */
  #put(path: string, node: ManifestNode | undefined, isThere: boolean): Buffer | undefined {
    const key = nodeKey(this.root.generation, path);
    if (node === undefined) {
      if (isThere) this.#writes.push({ key, value: null });
      return undefined;
    }
    const digest = placeNode(node, this.keys, this.root.generation, path);
    this.#writes.push({ key, value: encodedNode(node) });
    this.#nodes.push({ path, node });
    return digest;
  }
}

/** In the order of the digits. */
function byDigit(changes: readonly GroupChange[], depth: number): [digit: number, changes: GroupChange[]][] {
  const digits = new Map<number, GroupChange[]>();
  for (const change of changes) {
    const digit = digitAt(change.position, depth);
    const there = digits.get(digit);
    if (there === undefined) digits.set(digit, [change]);
    else there.push(change);
  }
  return [...digits].sort(([one], [other]) => one - other);
}
