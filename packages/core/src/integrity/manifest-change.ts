import type { StoreWrite } from '../store/store-driver.js';
import { groupOf } from './entry-kinds.js';
import type { IntegrityKeys } from './integrity-keys.js';
import {
  childPath,
  EMPTY_LEAF,
  encodeNode,
  FAN_OUT,
  Group,
  Inner,
  isTooLarge,
  type Leaf,
  type ManifestNode,
  nodeDigest,
  type Position,
} from './manifest-node.js';
import type { ManifestNodes } from './manifest-nodes.js';
import { type ManifestRoot, nodeKey, ROOT_KEY, signRoot, TOP_KEY } from './manifest-root.js';

/** What a commit does to the manifest: a new tag for each key written, or undefined for one removed. */
export type TagChanges = ReadonlyMap<string, Buffer | undefined>;

/** What has to be written, and what is to be kept once it is. */
export interface ManifestUpdate {
  readonly root: ManifestRoot;
  readonly writes: readonly StoreWrite[];
  readonly nodes: readonly { readonly path: string; readonly digest: Buffer; readonly node: ManifestNode }[];
}

interface GroupChange {
  readonly group: string;
  readonly position: Position;
  readonly tags: [key: string, tag: Buffer | undefined][];
}

/** Works one change into the tree: the nodes on the paths of the groups it touches, and nothing else. */
export class ManifestChange {
  readonly #writes: StoreWrite[] = [];
  readonly #nodes: { path: string; digest: Buffer; node: ManifestNode }[] = [];

  constructor(
    private readonly nodes: ManifestNodes,
    private readonly keys: IntegrityKeys,
    private readonly root: ManifestRoot,
  ) {}

  /** @throws NodeMismatch */
  async apply(changes: TagChanges, sequence: number): Promise<ManifestUpdate> {
    const { generation } = this.root;
    const top = await this.#change('', this.root.digest, this.#byGroup(changes));
    const encoded = encodeNode(top ?? EMPTY_LEAF);
    const digest = nodeDigest(this.keys, generation, '', encoded);
    const root = signRoot(this.keys, { generation, sequence, digest });
    this.#nodes.push({ path: '', digest, node: top ?? EMPTY_LEAF });
    this.#writes.push(
      { key: TOP_KEY, value: Buffer.concat([root.encoded, encoded]) },
      { key: ROOT_KEY, value: root.encoded },
    );
    return { root, writes: this.#writes, nodes: this.#nodes };
  }

  #byGroup(changes: TagChanges): GroupChange[] {
    const groups = new Map<string, GroupChange>();
    for (const [key, tag] of changes) {
      const group = groupOf(key);
      let change = groups.get(group);
      if (change === undefined) {
        change = { group, position: this.nodes.position(group), tags: [] };
        groups.set(group, change);
      }
      change.tags.push([key, tag]);
    }
    return [...groups.values()];
  }

  /** The node in place of the one at `path`; undefined when nothing is left below it. */
  async #change(path: string, digest: Buffer, changes: readonly GroupChange[]): Promise<ManifestNode | undefined> {
    const node = this.nodes.cached(path, digest) ?? (await this.nodes.load(this.root.generation, path, digest));
    if (node.type === 'leaf') return this.#changeLeaf(path, node, changes);
    const children = node.children();
    const changed = await Promise.all(
      [...byDigit(changes, path.length)].map(async ([digit, below]) => {
        const child = children[digit];
        const place = childPath(path, digit);
        const next =
          child === undefined ? this.#changeLeaf(place, EMPTY_LEAF, below) : await this.#change(place, child, below);
        return { digit, next, place, isThere: child !== undefined };
      }),
    );
    for (const { digit, next, place, isThere } of changed) children[digit] = this.#put(place, next, isThere);
    return children.every((child) => child === undefined) ? undefined : Inner.of(children);
  }

  #changeLeaf(path: string, leaf: Leaf, changes: readonly GroupChange[]): ManifestNode | undefined {
    const groups = new Map(leaf.groups);
    for (const { group, tags } of changes) {
      const changed = new Map(groups.get(group)?.tags);
      for (const [key, tag] of tags) {
        if (tag === undefined) changed.delete(key);
        else changed.set(key, tag);
      }
      if (changed.size === 0) groups.delete(group);
      else groups.set(group, Group.of(changed));
    }
    if (groups.size === 0) return undefined;
    const after: Leaf = { type: 'leaf', groups };
    return isTooLarge(after, path) ? this.#cut(after, path) : after;
  }

  #cut({ groups }: Leaf, path: string): ManifestNode {
    const parts: (Map<string, Group> | undefined)[] = Array.from({ length: FAN_OUT }, () => undefined);
    for (const [name, group] of groups) {
      const digit = this.nodes.position(name)[path.length] ?? 0;
      (parts[digit] ??= new Map()).set(name, group);
    }
    const children = parts.map((part, digit) => {
      if (part === undefined) return undefined;
      const place = childPath(path, digit);
      const leaf: Leaf = { type: 'leaf', groups: part };
      return this.#put(place, isTooLarge(leaf, place) ? this.#cut(leaf, place) : leaf, false);
    });
    return Inner.of(children);
  }

  /** Notes what to write for a node, and returns its digest. */
  #put(path: string, node: ManifestNode | undefined, isThere: boolean): Buffer | undefined {
    const key = nodeKey(this.root.generation, path);
    if (node === undefined) {
      if (isThere) this.#writes.push({ key, value: null });
      return undefined;
    }
    const value = encodeNode(node);
    const digest = nodeDigest(this.keys, this.root.generation, path, value);
    this.#writes.push({ key, value });
    this.#nodes.push({ path, digest, node });
    return digest;
  }
}

function byDigit(changes: readonly GroupChange[], depth: number): Map<number, GroupChange[]> {
  const digits = new Map<number, GroupChange[]>();
  for (const change of changes) {
    const digit = change.position[depth] ?? 0;
    const there = digits.get(digit);
    if (there === undefined) digits.set(digit, [change]);
    else there.push(change);
  }
  return digits;
}
