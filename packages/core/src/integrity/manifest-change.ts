import type { StoreWrite } from '../store/store-driver.js';
import { groupOf } from './entry-kinds.js';
import type { IntegrityKeys } from './integrity-keys.js';
import { type GroupChange, Leaf, MOST_GROUPS } from './manifest-leaf.js';
import { Inner, type ManifestNode, placeNode } from './manifest-node.js';
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

type Later<T> = T | Promise<T>;

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
      { key: TOP_KEY, value: Buffer.concat([root.encoded, top.encoded]) },
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

  /** The node in place of the one at `path`; undefined when nothing is left below it. A promise only where a node has to be read. */
  #change(path: string, digest: Buffer, changes: readonly GroupChange[]): Later<ManifestNode | undefined> {
    const node = this.nodes.cached(path, digest) ?? this.nodes.load(this.root.generation, path, digest);
    return after(node, (there) =>
      there.type === 'leaf' ? this.#changeLeaf(path, there, changes) : this.#changeInner(path, there, changes),
    );
  }

  #changeInner(path: string, node: Inner, changes: readonly GroupChange[]): Later<Inner | undefined> {
    const changed = byDigit(changes, path.length).map(([digit, below]) => {
      const child = node.child(digit);
      const place = childPath(path, digit);
      const next =
        child === undefined ? this.#changeLeaf(place, Leaf.empty(), below) : this.#change(place, child, below);
      return after(next, (there) => ({ digit, digest: this.#put(place, there, child !== undefined) }));
    });
    return after(allOf(changed), (children) => {
      const changedNode = node.with(children);
      return changedNode.isEmpty ? undefined : changedNode;
    });
  }

  #changeLeaf(path: string, leaf: Leaf, changes: readonly GroupChange[]): ManifestNode | undefined {
    // Also those of a whole import are never put into one leaf.
    if (changes.length > MOST_GROUPS) return this.#cut(path, leaf, changes);
    const changed = leaf.with(changes);
    if (changed.isEmpty) return undefined;
    return changed.isTooLarge(path) ? this.#cut(path, changed, []) : changed;
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
    this.#writes.push({ key, value: node.encoded });
    this.#nodes.push({ path, node });
    return digest;
  }
}

/** In the order of the digits. */
function byDigit(
  changes: readonly GroupChange[],
  depth: number,
): (readonly [digit: number, changes: readonly GroupChange[]])[] {
  const [only] = changes;
  if (only !== undefined && changes.length === 1) return [[digitAt(only.position, depth), changes]];
  const digits = new Map<number, GroupChange[]>();
  for (const change of changes) {
    const digit = digitAt(change.position, depth);
    const there = digits.get(digit);
    if (there === undefined) digits.set(digit, [change]);
    else there.push(change);
  }
  return [...digits].sort(([one], [other]) => one - other);
}

function after<T, R>(value: Later<T>, work: (value: T) => Later<R>): Later<R> {
  return value instanceof Promise ? value.then(work) : work(value);
}

function allOf<T>(values: readonly Later<T>[]): Later<readonly T[]> {
  const isThere = (value: Later<T>): value is T => !(value instanceof Promise);
  return values.every(isThere) ? values : Promise.all(values);
}
