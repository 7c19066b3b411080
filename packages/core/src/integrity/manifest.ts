import { StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreWrite } from '../store/store-driver.js';
import {
  findingAt,
  type IntegrityFindingKind,
  StoreIntegrityError,
  TamperedRecordError,
} from './integrity-findings.js';
import type { IntegrityKeys } from './integrity-keys.js';
import type { IntegrityReports } from './integrity-reports.js';
import type { ManifestUpdate } from './manifest-change.js';
import { type ManifestNode } from './manifest-node.js';
import { ManifestNodes, NodeMismatch } from './manifest-nodes.js';
import { type ManifestRoot, nodeKey, readRoot, ROOT_BYTES, ROOT_KEY, signRoot, TOP_KEY } from './manifest-root.js';

/** A root, and the revision of its entry in the store, on which a change of it depends. */
export interface KnownRoot {
  readonly root: ManifestRoot;
  readonly revision: number;
}

/** The newest state of a store that somebody has seen. */
export interface SeenState {
  readonly sequence: number;
  /** The MAC of the root. */
  readonly mac: Buffer;
}

const ATTEMPTS = 100;

/**
 * The manifest of a store as this process knows it. It never goes back: a root older than one that was seen is refused, whoever shows it. What was damaged is
 * made anew where what is left proves what it was.
 */
export class Manifest {
  readonly nodes: ManifestNodes;
  #known: KnownRoot | undefined;
  #seen: SeenState | undefined;
  readonly #repairs = new Map<string, Promise<void>>();
  /** Nodes that could not be made anew; whoever asks again need not wait for it again. */
  readonly #lost = new Set<string>();

  constructor(
    private readonly store: StoreDriver,
    readonly keys: IntegrityKeys,
    private readonly reports: IntegrityReports,
    private readonly onSeen: (seen: SeenState) => void,
  ) {
    this.nodes = new ManifestNodes(store, keys);
  }

  get seen(): SeenState | undefined {
    return this.#seen;
  }

  /** Takes note of a state that is known from elsewhere. */
  see(seen: SeenState): void {
    if (this.#seen !== undefined && this.#seen.sequence >= seen.sequence) return;
    this.#seen = seen;
    this.onSeen(seen);
  }

  /** The root as last seen, without a look at the store unless there is a reason for one. */
  async current(): Promise<KnownRoot> {
    return this.#known ?? this.refresh();
  }

  /** Nobody knows whether the last change went through. */
  doubt(): void {
    this.#known = undefined;
  }

  /**
   * The root as it is in the store now.
   * @throws StoreIntegrityError when there is none, or only one that is older than what was seen
   */
  async refresh(): Promise<KnownRoot> {
    const before = this.#seen;
    const entry = await this.store.get(ROOT_KEY);
    const known = this.#known;
    if (entry !== undefined && known !== undefined && entry.revision === known.revision) {
      if (known.root.mac.equals(entry.value.subarray(-known.root.mac.length))) return known;
    }
    const root = entry && readRoot(this.keys, entry.value);
    if (entry === undefined || root === undefined || this.#fault(root, before) !== undefined) return this.#recover();
    return this.#take(root, entry.revision);
  }

  /** Works with the tree; again when it has moved on meanwhile, and with what was damaged made anew. */
  async consult<R>(work: (known: KnownRoot) => Promise<R>, from?: KnownRoot): Promise<R> {
    let known = from ?? (await this.refresh());
    let last: NodeMismatch | undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      try {
        return await work(known);
      } catch (error) {
        if (!(error instanceof NodeMismatch)) throw error;
        // The node was read between two roots that both lead to it as it was: it did not move on, it was changed.
        const isDamaged = last?.path === error.path && last.digest.equals(error.digest);
        if (isDamaged) await this.#repair(known, error);
        last = error;
        known = await this.refresh();
      }
    }
    throw new StoreContentionError('the manifest');
  }

  /** What was written is what holds now. */
  advance({ root, nodes }: ManifestUpdate, revision: number): void {
    for (const { path, node } of nodes) this.nodes.keep(path, node);
    this.#take(root, revision);
  }

  /** Begins anew with another root, after a restore was accepted. */
  restart(root: ManifestRoot, revision: number): void {
    this.nodes.forget();
    this.#lost.clear();
    this.#known = undefined;
    this.#take(root, revision);
  }

  /** The newest root of the two that the store has, whatever was seen before; undefined when neither can be read. */
  async newest(): Promise<{
    readonly root: ManifestRoot | undefined;
    readonly revision: number;
    readonly isWhole: boolean;
  }> {
    const entry = await this.store.get(ROOT_KEY);
    const top = await this.store.get(TOP_KEY);
    const own = entry && readRoot(this.keys, entry.value);
    const copy = top && readRoot(this.keys, top.value.subarray(0, ROOT_BYTES));
    const isCopyNewer = copy !== undefined && (own === undefined || copy.sequence > own.sequence);
    return { root: isCopyNewer ? copy : own, revision: entry?.revision ?? 0, isWhole: !isCopyNewer };
  }

  /** The newer one of a root and of what came to be known while it was read. */
  #take(root: ManifestRoot, revision: number): KnownRoot {
    this.see({ sequence: root.sequence, mac: root.mac });
    if (this.#known !== undefined && this.#known.root.sequence > root.sequence) return this.#known;
    this.#known = { root, revision };
    return this.#known;
  }

  /** `before` is what was seen when the store was asked: changes that came between its answer and now do not make that answer an older copy. */
  #fault(root: ManifestRoot, before: SeenState | undefined): 'store-rolled-back' | 'store-forked' | undefined {
    if (before !== undefined && root.sequence < before.sequence) return 'store-rolled-back';
    const isForked = this.#seen?.sequence === root.sequence && !root.mac.equals(this.#seen.mac);
    return isForked ? 'store-forked' : undefined;
  }

  /** Looks again, since an answer may be older than what came meanwhile, and at the copy as well. */
  async #recover(): Promise<KnownRoot> {
    const before = this.#seen;
    const { root, revision, isWhole } = await this.newest();
    if (root === undefined) {
      this.#report('manifest-damaged', ROOT_KEY, revision);
      throw new StoreIntegrityError(
        'MANIFEST_LOST',
        'What proves the contents of the store is gone, or was changed in both places where it stands. Nothing is read or written. Restore the store from a backup, or look through it with verifyStore() and call acceptRestore({ reason }).',
      );
    }
    const fault = this.#fault(root, before);
    if (fault !== undefined) {
      this.#report(fault, ROOT_KEY, revision);
      throw new StoreIntegrityError(
        fault === 'store-forked' ? 'STORE_FORKED' : 'STORE_ROLLED_BACK',
        `The store is at change ${root.sequence}, and was seen at change ${before?.sequence ?? 0}: an older copy of it was put back, or it is another one. Nothing is read or written. If it was restored from a backup on purpose, call acceptRestore({ reason }).`,
      );
    }
    if (!isWhole) {
      // Both are written at once, so the copy is newer only because it was read later, or because somebody changed the root.
      const again = await this.store.get(ROOT_KEY);
      const own = again && readRoot(this.keys, again.value);
      if (own !== undefined && own.sequence >= root.sequence) return this.#take(own, again?.revision ?? 0);
      if ((again?.revision ?? 0) === revision) this.#report('manifest-damaged', ROOT_KEY, revision);
    }
    return this.#take(root, revision);
  }

  async #repair(known: KnownRoot, mismatch: NodeMismatch): Promise<void> {
    const key = nodeKey(known.root.generation, mismatch.path);
    const about = `${key} ${mismatch.digest.toString('hex')}`;
    let repair = this.#repairs.get(about);
    if (repair === undefined) {
      repair = this.#repairOnce(known, mismatch, key, about).finally(() => this.#repairs.delete(about));
      this.#repairs.set(about, repair);
    }
    await repair;
  }

  async #repairOnce(known: KnownRoot, { path, digest }: NodeMismatch, key: string, about: string): Promise<void> {
    if (path === '') {
      // The root may have been put back to an older one by itself.
      const { root } = await this.#recover();
      if (!root.digest.equals(digest)) return;
    }
    const { generation } = known.root;
    const node = this.#lost.has(about) ? undefined : await this.nodes.rebuild(generation, path, digest);
    const entry = await this.store.get(key);
    if (node === undefined) {
      this.#lost.add(about);
      const finding = findingAt('manifest-damaged', key);
      this.reports.found(finding, entry?.revision ?? 0);
      throw new TamperedRecordError(finding);
    }
    this.#report('manifest-damaged', key, entry?.revision ?? 0);
    const writes: StoreWrite[] = [{ key, value: this.#encode(path, node, known.root) }];
    const conditions = [{ key: ROOT_KEY, revision: known.revision }];
    // Where somebody was first, the next look finds either the new node or the same damage.
    const written = await this.store.commit({ conditions, writes }).catch(() => undefined);
    if (written !== undefined) this.reports.repaired(key);
  }

  #encode(path: string, node: ManifestNode, root: ManifestRoot): Buffer {
    const encoded = node.encoded;
    return path === '' ? Buffer.concat([signRoot(this.keys, root).encoded, encoded]) : encoded;
  }

  #report(kind: IntegrityFindingKind, key: string, revision: number): void {
    this.reports.found(findingAt(kind, key), revision);
  }
}
