import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import type { IntegrityKeys } from './integrity-keys.js';
import {
  childPath,
  decodeNode,
  encodeNode,
  FAN_OUT,
  Inner,
  type Leaf,
  leafOf,
  type ManifestNode,
  nodeDigest,
  type Position,
  positionOf,
  standsBelow,
} from './manifest-node.js';
import { groupOf, kindOf } from './entry-kinds.js';
import { type ManifestRoot, nodeKey, ROOT_BYTES } from './manifest-root.js';
import { openRecord } from './record-seal.js';

/** Some megabytes; an application follows fewer secrets than this has leaves. */
const CACHED_NODES = 2048;
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
  readonly #cached = new Map<string, { readonly digest: Buffer; readonly node: ManifestNode }>();
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
    if (this.#positions.size >= CACHED_NODES) this.#positions.clear();
    this.#positions.set(group, position);
    return position;
  }

  /** Keeps a node that is known to be right. */
  keep(path: string, digest: Buffer, node: ManifestNode): void {
    this.#cached.delete(path);
    this.#cached.set(path, { digest, node });
    if (this.#cached.size <= CACHED_NODES) return;
    // The top is never the oldest for long, since every look begins there.
    const [oldest] = this.#cached.keys();
    if (oldest !== undefined) this.#cached.delete(oldest);
  }

  forget(): void {
    this.#cached.clear();
  }

  cached(path: string, digest: Buffer): ManifestNode | undefined {
    const known = this.#cached.get(path);
    if (known === undefined || !known.digest.equals(digest)) return undefined;
    this.#cached.delete(path);
    this.#cached.set(path, known);
    return known.node;
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
    const encoded = encodedNode(path, await this.store.get(nodeKey(generation, path)));
    if (encoded !== undefined && nodeDigest(this.keys, generation, path, encoded).equals(digest)) {
      const node = decodeNode(encoded);
      if (node !== undefined) {
        this.keep(path, digest, node);
        return node;
      }
    }
    throw new NodeMismatch(path, digest);
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
      const digit = position[path.length] ?? 0;
      const child = node.child(digit);
      if (child === undefined) return undefined;
      path = childPath(path, digit);
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
      const place = path.slice(0, depth + 1);
      const digest = node.children().find((_, digit) => childPath(path.slice(0, depth), digit) === place);
      if (digest === undefined) return undefined;
      node = await this.load(root.generation, place, digest);
    }
    return node;
  }

  /** The tag by which the manifest knows an entry. */
  async tag(root: ManifestRoot, key: string): Promise<Buffer | undefined> {
    const group = groupOf(key);
    return (await this.leaf(root, this.position(group)))?.groups.get(group)?.tags.get(key);
  }

  /**
   * Makes a node anew that is not what it should be: from the nodes below it, or from the entries that it names. Undefined when what is left does not come to
   * the digest that is known, so that nobody can tell what it was.
   */
  async rebuild(generation: number, path: string, digest: Buffer): Promise<ManifestNode | undefined> {
    const proven = (node: ManifestNode): boolean =>
      nodeDigest(this.keys, generation, path, encodeNode(node)).equals(digest);
    for (const candidate of [() => this.#innerFromBelow(generation, path), () => this.#leafFromEntries(path)]) {
      const node = await candidate();
      if (!proven(node)) continue;
      this.keep(path, digest, node);
      return node;
    }
    return undefined;
  }

  async #innerFromBelow(generation: number, path: string): Promise<Inner> {
    const below = Array.from({ length: FAN_OUT }, (_, digit) => childPath(path, digit));
    const entries = await Promise.all(below.map((child) => this.store.get(nodeKey(generation, child))));
    const children = entries.map((entry, digit) => {
      const child = below[digit] ?? '';
      const encoded = encodedNode(child, entry);
      return encoded && nodeDigest(this.keys, generation, child, encoded);
    });
    return Inner.of(children);
  }

  async #leafFromEntries(path: string): Promise<Leaf> {
    const found: (readonly [string, Buffer])[] = [];
    for await (const page of allEntries(this.store)) {
      for (const { key, value } of page) {
        if (kindOf(key) !== 'listed' || !standsBelow(path, positionOf(groupOf(key)))) continue;
        const opened = openRecord(this.keys, key, value);
        if (opened.state === 'authentic') found.push([key, opened.tag]);
      }
    }
    return leafOf(found);
  }
}

/** The bytes of a node in its entry: the top node has a copy of the root in front of it. */
export function encodedNode(path: string, entry: StoreEntry | undefined): Buffer | undefined {
  if (entry === undefined) return undefined;
  const { buffer, byteOffset, byteLength } = entry.value;
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  return path === '' ? bytes.subarray(ROOT_BYTES) : bytes;
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
