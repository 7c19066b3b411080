import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { IntegrityKeys } from './integrity-keys.js';
import { groupOf, kindOf } from './entry-kinds.js';
import { Leaf } from './manifest-leaf.js';
import { digestOf, Inner, type ManifestNode, placeNode, readNode } from './manifest-node.js';
import { childPath, digitAt, FAN_OUT, type Position, positionOf } from './manifest-place.js';
import { type ManifestRoot, nodeKey, ROOT_BYTES } from './manifest-root.js';
import { openRecord } from './record-seal.js';

/** Up to twice as many nodes are kept: some megabytes. An application follows fewer secrets than this has leaves. */
const YOUNG_NODES = 1024;
const KNOWN_POSITIONS = 2048;
const PAGE = 500;

/** Thrown where a node is not the one that the root, as it was known, leads to: the tree has moved on, or the node was damaged. */
export class NodeMismatch extends Error {
  constructor(
    readonly path: string,
    readonly digest: Buffer,
  ) {
    super(`The node ${path} of the manifest is not the one that was looked for.`);
  }
}

/** The nodes of the manifest: read once each, and kept for as long as the nodes above them lead to them. */
export class ManifestNodes {
  /** By path: those used since the older ones were set aside, and those that are forgotten next time unless they are used again. */
  #young = new Map<string, ManifestNode>();
  #old = new Map<string, ManifestNode>();
  readonly #positions = new Map<string, Position>();
  /** A page of entries asks for the same few nodes many times at once. */
  readonly #loading = new Map<string, Promise<ManifestNode>>();

  constructor(
    private readonly store: StoreDriver,
    private readonly keys: IntegrityKeys,
  ) {}

  /** Where a group stands; the same few are asked for several times in each change. */
  position(group: string): Position {
    const known = this.#positions.get(group);
    if (known !== undefined) return known;
    const position = positionOf(group);
    if (this.#positions.size >= KNOWN_POSITIONS) this.#positions.clear();
    this.#positions.set(group, position);
    return position;
  }

  /** Keeps a node that is known to be right. */
  keep(path: string, node: ManifestNode): void {
    this.#young.set(path, node);
    if (this.#young.size < YOUNG_NODES) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  forget(): void {
    this.#young.clear();
    this.#old.clear();
  }

  cached(path: string, digest: Buffer): ManifestNode | undefined {
    const young = this.#young.get(path);
    const node = young ?? this.#old.get(path);
    if (node === undefined || !digestOf(node).equals(digest)) return undefined;
    if (young === undefined) this.keep(path, node);
    return node;
  }

  /** @throws NodeMismatch */
  async load(generation: number, path: string, digest: Buffer): Promise<ManifestNode> {
    const known = this.cached(path, digest);
    if (known !== undefined) return known;
    const about = `${generation} ${path} ${digest.toString('latin1')}`;
    let loading = this.#loading.get(about);
    if (loading === undefined) {
      loading = this.#loadOnce(generation, path, digest).finally(() => this.#loading.delete(about));
      this.#loading.set(about, loading);
    }
    return loading;
  }

  async #loadOnce(generation: number, path: string, digest: Buffer): Promise<ManifestNode> {
    const node = storedNode(path, await this.store.get(nodeKey(generation, path)));
    if (node === undefined || !placeNode(node, this.keys, generation, path).equals(digest))
      throw new NodeMismatch(path, digest);
    this.keep(path, node);
    return node;
  }

  /**
   * The leaf that a position leads to; undefined where there is none.
   * @throws NodeMismatch
   */
  async leaf(root: ManifestRoot, position: Position): Promise<Leaf | undefined> {
    let path = '';
    let { digest } = root;
    for (;;) {
      const node = this.cached(path, digest) ?? (await this.load(root.generation, path, digest));
      if (node.type === 'leaf') return node;
      const child = node.child(digitAt(position, path.length));
      if (child === undefined) return undefined;
      path = position.slice(0, path.length + 1);
      digest = child;
    }
  }

  /**
   * The node at a path; undefined where there is none any more.
   * @throws NodeMismatch
   */
  async at(root: ManifestRoot, path: string): Promise<ManifestNode | undefined> {
    let node = await this.load(root.generation, '', root.digest);
    for (let depth = 0; depth < path.length; depth += 1) {
      if (node.type === 'leaf') return undefined;
      const digest = node.child(digitAt(path, depth));
      if (digest === undefined) return undefined;
      node = await this.load(root.generation, path.slice(0, depth + 1), digest);
    }
    return node;
  }

  /** The tag by which the manifest knows an entry. */
  async tag(root: ManifestRoot, key: string): Promise<Buffer | undefined> {
    const group = groupOf(key);
    return (await this.leaf(root, this.position(group)))?.tag(group, key);
  }

  /**
   * Makes a node anew that is not what it should be: from the nodes below it, or from the entries that it names. Undefined when what is left does not come to
   * the digest that is known, so that nobody can tell what it was.
   */
  async rebuild(generation: number, path: string, digest: Buffer): Promise<ManifestNode | undefined> {
    for (const candidate of [() => this.#innerFromBelow(generation, path), () => this.#leafFromEntries(path)]) {
      const node = await candidate();
      if (node === undefined || !placeNode(node, this.keys, generation, path).equals(digest)) continue;
      this.keep(path, node);
      return node;
    }
    return undefined;
  }

  async #innerFromBelow(generation: number, path: string): Promise<Inner> {
    const below = Array.from({ length: FAN_OUT }, (_, digit) => childPath(path, digit));
    const entries = await Promise.all(below.map((child) => this.store.get(nodeKey(generation, child))));
    const children = entries.map((entry, digit) => {
      const child = below[digit] ?? '';
      const node = storedNode(child, entry);
      return node && placeNode(node, this.keys, generation, child);
    });
    return Inner.of(children);
  }

  async #leafFromEntries(path: string): Promise<Leaf | undefined> {
    const found: (readonly [string, Buffer])[] = [];
    for await (const page of allEntries(this.store)) {
      for (const { key, value } of page) {
        if (kindOf(key) !== 'listed' || !positionOf(groupOf(key)).startsWith(path)) continue;
        const opened = openRecord(this.keys, key, value);
        if (opened.state === 'authentic') found.push([key, opened.tag]);
      }
    }
    return Leaf.of(found);
  }
}

/** A node in its entry: the top node has a copy of the root in front of it. */
function storedNode(path: string, entry: StoreEntry | undefined): ManifestNode | undefined {
  return entry && readNode(path === '' ? entry.value.subarray(ROOT_BYTES) : entry.value);
}

/** Every entry of a store, page by page. */
export async function* allEntries(store: StoreDriver, prefix = ''): AsyncGenerator<StoreEntry[]> {
  let after: string | undefined;
  for (;;) {
    const page = await store.list({ prefix, limit: PAGE, ...(after === undefined ? {} : { after }) });
    if (page.length > 0) yield page;
    if (page.length < PAGE) return;
    after = page.at(-1)?.key;
  }
}
