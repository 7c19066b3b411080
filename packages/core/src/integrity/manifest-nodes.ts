import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { IntegrityKeys } from './integrity-keys.js';
import { groupOf, kindOf } from './entry-kinds.js';
import { Leaf } from './manifest-leaf.js';
import { Inner, type ManifestNode, placeNode, readNode } from './manifest-node.js';
import { childPath, digitAt, FAN_OUT, type Look, type Position, positionOf } from './manifest-place.js';
import { type ManifestRoot, nodeKey, ROOT_BYTES } from './manifest-root.js';
import { openRecord } from './record-seal.js';

/** Up to twice as many nodes are kept: some megabytes. An application follows fewer secrets than this has leaves. */
const YOUNG_NODES = 1024;
const KNOWN_POSITIONS = 2048;
const PAGE = 500;

type Reading = Promise<StoreEntry | undefined>;

/** Thrown where a node is not the one that the root, as it was known, leads to: the tree has moved on, or the node was damaged. */
export class NodeMismatch extends Error {
  constructor(
    readonly path: string,
    readonly digest: Buffer,
  ) {
    super(`The node ${path} of the manifest is not the one that was looked for.`);
  }
}

/**
 * The nodes of the manifest, kept for as long as the nodes above them lead to them. Of a node in which one group was looked for, only what it says of that one is kept: an
 * application that follows few of many secrets has little in memory. Who looks for a second one has it read again, and kept whole, as those are that were changed here.
 */
export class ManifestNodes {
  /** By path: those used since the older ones were set aside, and those that are forgotten next time unless they are used again. */
  #young = new Map<string, ManifestNode>();
  #old = new Map<string, ManifestNode>();
  #deepest = 0;
  readonly #positions = new Map<string, Position>();
  /** A page of entries asks for the same few nodes many times at once. */
  readonly #reading = new Map<string, Promise<ManifestNode>>();

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
    this.#deepest = Math.max(this.#deepest, path.length);
    if (this.#young.size < YOUNG_NODES) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  forget(): void {
    this.#young.clear();
    this.#old.clear();
    this.#deepest = 0;
  }

  /** The whole node, if it is at hand. */
  cached(path: string, digest: Buffer): ManifestNode | undefined {
    const node = this.#kept(path, digest);
    return node?.isWhole === true ? node : undefined;
  }

  /**
   * The whole node.
   * @throws NodeMismatch
   */
  async load(generation: number, path: string, digest: Buffer): Promise<ManifestNode> {
    const known = this.cached(path, digest);
    if (known !== undefined) return known;
    const node = await this.#read(generation, path, digest);
    this.keep(path, node);
    return node;
  }

  /**
   * The leaf that names the entries of a group, or what it says of that group; undefined where there is none.
   * @throws NodeMismatch
   */
  async leaf({ generation, digest: top }: ManifestRoot, group: string): Promise<Leaf | undefined> {
    const look = { group, position: this.position(group) };
    let ahead: ReadonlyMap<string, Reading> | undefined;
    let digest = top;
    for (let depth = 0; ; depth += 1) {
      const path = look.position.slice(0, depth);
      let node = this.#kept(path, digest);
      if (node?.tells(look, depth) !== true) {
        ahead ??= this.#readAhead(generation, look.position, depth);
        node = this.#keepFor(look, path, await this.#read(generation, path, digest, ahead.get(path)));
      }
      if (node.type === 'leaf') return node;
      const child = node.child(digitAt(look.position, depth));
      if (child === undefined) return undefined;
      digest = child;
    }
  }

  /** Below a node that has to be read are others that will have to be: asked for at once, they come with it. The deepest path that was ever seen tells how many. */
  #readAhead(generation: number, position: Position, depth: number): ReadonlyMap<string, Reading> {
    const ahead = new Map<string, Reading>();
    for (let below = depth + 1; below <= this.#deepest; below += 1) {
      const path = position.slice(0, below);
      if (this.#young.has(path) || this.#old.has(path)) continue;
      const reading = this.store.get(nodeKey(generation, path));
      // It may never be needed; whoever does is told.
      reading.catch(() => undefined);
      ahead.set(path, reading);
    }
    return ahead;
  }

  #keepFor(look: Look, path: string, node: ManifestNode): ManifestNode {
    const kept = this.#kept(path, node.digest);
    if (kept?.tells(look, path.length) === true) return node;
    // All looks begin at the top.
    this.keep(path, kept === undefined && path !== '' ? node.part(look, path.length) : node);
    return node;
  }

  #kept(path: string, digest: Buffer): ManifestNode | undefined {
    const young = this.#young.get(path);
    const node = young ?? this.#old.get(path);
    if (node === undefined || !node.digest.equals(digest)) return undefined;
    if (young === undefined) this.keep(path, node);
    return node;
  }

  async #read(generation: number, path: string, digest: Buffer, ahead?: Reading): Promise<ManifestNode> {
    const about = `${generation} ${path} ${digest.toString('latin1')}`;
    let reading = this.#reading.get(about);
    if (reading === undefined) {
      reading = this.#readOnce(generation, path, digest, ahead).finally(() => this.#reading.delete(about));
      this.#reading.set(about, reading);
    }
    return reading;
  }

  async #readOnce(generation: number, path: string, digest: Buffer, ahead?: Reading): Promise<ManifestNode> {
    const node = storedNode(path, await (ahead ?? this.store.get(nodeKey(generation, path))));
    if (node === undefined || !placeNode(node, this.keys, generation, path).equals(digest))
      throw new NodeMismatch(path, digest);
    return node;
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
    return (await this.leaf(root, group))?.tag(group, key);
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
        if (opened.state === 'authentic') found.push([key, Buffer.from(opened.tag)]);
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
