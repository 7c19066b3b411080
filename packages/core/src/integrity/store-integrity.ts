import type { Observable } from 'rxjs';
import type { Clock } from '../foundation/clock.js';
import { StoreContentionError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreDriver } from '../store/store-driver.js';
import { acceptSecret } from './accept-secret.js';
import { kindOf } from './entry-kinds.js';
import { HighWaterFile } from './high-water-file.js';
import { deriveIntegrityKeys, endIntegrityKeys, type IntegrityKeys, STORE_ROOT_KEY_BYTES } from './integrity-keys.js';
import { findingAt, type IntegrityEvent, type IntegrityFinding, StoreIntegrityError } from './integrity-findings.js';
import { IntegrityReports } from './integrity-reports.js';
import { Manifest } from './manifest.js';
import { Leaf } from './manifest-leaf.js';
import { placeNode } from './manifest-node.js';
import { allEntries } from './manifest-nodes.js';
import { rebuildManifest } from './manifest-rebuild.js';
import { ROOT_KEY, signRoot, TOP_KEY } from './manifest-root.js';
import { ManifestWriter } from './manifest-writer.js';
import { RecordReader } from './record-reader.js';
import { SealedStore } from './sealed-store.js';
import {
  type OpenedStore,
  openRootKey,
  openStoreRecord,
  ROOT_KEY_ENTRIES,
  sealRootKey,
  STORE_COPY_KEY,
  type StoreOpeningParts,
} from './store-opening.js';
import { type StoreHead, type StoreVerification, StoreVerifier, type VerifyStoreOptions } from './verify-store.js';

export interface IntegrityOptions {
  /**
   * Where this machine keeps the newest state of the store that it has seen, so that a process notices when the whole store was put back to an older one before it
   * started. Without it, only those notice that were running. One file for each store, on a disk that is not restored together with it.
   */
  readonly highWaterFile?: string;
  /**
   * Seals a store that was written by a version of this library without integrity. It believes whatever stands there: set it for one start, and take it out again. False
   * by default, and without effect on a store that is sealed.
   */
  readonly adopt?: boolean;
  /**
   * Why a store that was put back is right, such as a ticket's number: accepts it as `acceptRestore` does, at start, for an application that does not start otherwise. Without
   * effect while nothing is wrong with the store. Take it out again.
   */
  readonly acceptRestore?: string;
  /** Told of everything that is found or put right; must not throw. */
  readonly onEvent?: (event: IntegrityEvent) => void;
}

export interface AcceptRestoreOptions {
  /** Why it is right, for the audit log: who restored what, from which backup. */
  readonly reason: string;
  /** Accepts the entries of this secret only, and removes those that were not written under the key of the store. */
  readonly secretName?: string;
  /** The store must come to stand above these states, which others have seen; this process's own is always among them. */
  readonly anchors?: readonly StoreHead[];
}

export interface IntegrityParts {
  readonly store: StoreDriver;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

interface Opened {
  readonly storeId: string;
  readonly keys: IntegrityKeys;
  readonly manifest: Manifest;
  readonly reader: RecordReader;
  readonly file: HighWaterFile | undefined;
}

const ATTEMPTS = 50;

/** The integrity of one store: what is read through `store` was written under its key, and is the latest that was. */
export class StoreIntegrity {
  /** To be used in place of the driver by everyone. */
  readonly store: SealedStore;
  readonly #reports: IntegrityReports;
  #opened: Opened | undefined;

  constructor(
    private readonly parts: IntegrityParts,
    private readonly options: IntegrityOptions = {},
  ) {
    this.store = new SealedStore(parts.store);
    this.#reports = new IntegrityReports(parts.clock, options.onEvent);
  }

  /** What is found, once for each finding, and what is put right. Completes when the store is closed. */
  get events$(): Observable<IntegrityEvent> {
    return this.#reports.events$;
  }

  /** The latest thing found to be wrong; undefined while nothing was, or since a restore was accepted. */
  get latestFinding(): IntegrityFinding | undefined {
    return this.#reports.latest;
  }

  /**
   * Opens what names the store and what proves its contents, or makes it for an empty store. The store driver and the keys must be open.
   * @throws KeyMismatchError, CorruptRecordError, StoreIntegrityError
   */
  async open(parts: Omit<StoreOpeningParts, 'store'>): Promise<OpenedStore> {
    const { store, clock, randomness } = this.parts;
    const opened = await openStoreRecord({ ...parts, store });
    const { storeId, keyring } = opened;
    let isNew = false;
    let root = await openRootKey(store, keyring);
    for (let attempt = 0; root === undefined; attempt += 1) {
      if (attempt === ATTEMPTS) throw new StoreContentionError('the manifest');
      isNew = await this.#create(opened);
      root = await openRootKey(store, keyring);
    }
    const keys = deriveIntegrityKeys(root.rootKey, storeId);
    root.rootKey.fill(0);
    const { highWaterFile } = this.options;
    const file = highWaterFile === undefined ? undefined : new HighWaterFile(highWaterFile, storeId, clock);
    const seen = await file?.read();
    const manifest = new Manifest(store, keys, this.#reports, (state) => file?.see(state));
    if (seen !== undefined) manifest.see(seen);
    const reader = new RecordReader(store, manifest, this.#reports);
    const writer = new ManifestWriter({ store, manifest, reader, clock, randomness });
    this.#opened = { storeId, keys, manifest, reader, file };
    this.store.unseal({ keys, reader, writer });
    for (const key of [...opened.damaged, ...root.damaged]) this.#reports.found(findingAt('manifest-damaged', key), 0);
    if (!isNew) await this.#begin();
    return opened;
  }

  async close(): Promise<void> {
    await this.store.close();
    await this.#opened?.file?.close();
    this.#reports.close();
    if (this.#opened !== undefined) endIntegrityKeys(this.#opened.keys);
  }

  /** The newest state of the store that this process has seen, without a look at it; undefined before it was opened. */
  get seenHead(): StoreHead | undefined {
    const seen = this.#opened?.manifest.seen;
    return seen && { storeId: this.#parts().storeId, sequence: seen.sequence, mac: seen.mac.toString('base64') };
  }

  /**
   * The state of the store as it is now, to be kept elsewhere and given to `verifyStore` later.
   * @throws StoreIntegrityError, StoreUnavailableError
   */
  async storeHead(): Promise<StoreHead> {
    const { storeId, manifest } = this.#parts();
    const { root } = await manifest.refresh();
    return { storeId, sequence: root.sequence, mac: root.mac.toString('base64') };
  }

  /**
   * Looks at everything that the store holds, and tells all that is wrong with it. Changes nothing but what can be made anew with proof.
   * @throws StoreUnavailableError
   */
  async verifyStore(options: VerifyStoreOptions = {}): Promise<StoreVerification> {
    const { storeId, manifest, reader } = this.#parts();
    const verification = await new StoreVerifier({ store: this.parts.store, storeId, manifest, reader }).verify(
      options,
    );
    for (const finding of verification.findings) this.#reports.found(finding);
    return verification;
  }

  /**
   * Declares that what stands in the store is right, after it was restored from a backup on purpose. Everything that was written under the key of the store counts from then on
   * as it stands; what was not is left out, and returned. Every process that has seen newer states goes on by itself.
   * @throws StoreContentionError, StoreUnavailableError
   */
  async acceptRestore({
    reason,
    secretName,
    anchors = [],
  }: AcceptRestoreOptions): Promise<readonly IntegrityFinding[]> {
    if (secretName !== undefined) return this.#acceptSecret(secretName, reason);
    const { manifest } = this.#parts();
    const seenSequence = Math.max(manifest.seen?.sequence ?? 0, ...anchors.map(({ sequence }) => sequence));
    return this.#rebuild('authentic', seenSequence, reason);
  }

  /** Looks at the root, so that whatever is wrong with it is known from the start. */
  async #begin(): Promise<void> {
    const { store } = this.parts;
    const { manifest } = this.#parts();
    const { adopt, acceptRestore } = this.options;
    const { root } = await manifest.newest();
    if (root === undefined && adopt === true && (await store.get(ROOT_KEY)) === undefined) {
      await this.#rebuild('anything', manifest.seen?.sequence ?? 0, 'adopted at start (`integrity.adopt`)');
      return;
    }
    try {
      await manifest.refresh();
    } catch (error) {
      // Those who read are told; whoever looks through the store, or accepts it, must be able to.
      if (!(error instanceof StoreIntegrityError)) throw error;
      if (acceptRestore !== undefined) await this.acceptRestore({ reason: acceptRestore });
    }
  }

  /** Makes the key and an empty manifest. True when this process did so; an attempt to seal what is there leaves the manifest to `#begin`. */
  async #create({ storeId, keyring, record }: OpenedStore): Promise<boolean> {
    const { store, randomness } = this.parts;
    const isEmpty = !(await this.#hasListed());
    if (!isEmpty && this.options.adopt !== true) {
      // Another process may have made it meanwhile.
      if ((await store.get(ROOT_KEY_ENTRIES[0] ?? '')) !== undefined) return false;
      throw new StoreIntegrityError(
        'STORE_NOT_SEALED',
        'The store has records and no manifest. If it was written by a version of this library without integrity, start once with `integrity: { adopt: true }`. If it was not, somebody removed what proves its contents: restore it from a backup.',
      );
    }
    const rootKey = randomness.bytes(STORE_ROOT_KEY_BYTES);
    const keys = deriveIntegrityKeys(rootKey, storeId);
    try {
      const sealed = await sealRootKey(keyring, rootKey);
      const generation = 1 + randomness.below(0xffff_fffe);
      const top = Leaf.empty();
      const root = signRoot(keys, { generation, sequence: 1, digest: placeNode(top, keys, generation, '') });
      const own = ROOT_KEY_ENTRIES.map((key) => ({ key, value: sealed }));
      const empty = [
        { key: TOP_KEY, value: Buffer.concat([root.encoded, top.encoded]) },
        { key: ROOT_KEY, value: root.encoded },
      ];
      const written = await store.commit({
        conditions: [...own, { key: ROOT_KEY }].map(({ key }) => ({ key, revision: 0 })),
        writes: [...own, { key: STORE_COPY_KEY, value: record }, ...(isEmpty ? empty : [])],
      });
      return written !== undefined && isEmpty;
    } finally {
      endIntegrityKeys(keys);
      rootKey.fill(0);
    }
  }

  async #hasListed(): Promise<boolean> {
    for await (const page of allEntries(this.parts.store))
      if (page.some(({ key }) => kindOf(key) === 'listed')) return true;
    return false;
  }

  async #rebuild(
    accepts: 'authentic' | 'anything',
    seenSequence: number,
    reason: string,
  ): Promise<readonly IntegrityFinding[]> {
    const { store, clock, randomness } = this.parts;
    const { keys, manifest } = this.#parts();
    const rebuilt = await rebuildManifest({ store, keys, randomness, seenSequence, accepts });
    manifest.restart(rebuilt.root, rebuilt.revision);
    this.#reports.settled();
    const { fromSequence, findings, root } = rebuilt;
    this.#reports.tell({ type: 'restore-accepted', at: clock.now(), fromSequence, toSequence: root.sequence, reason });
    return findings;
  }

  async #acceptSecret(secretName: string, reason: string): Promise<readonly IntegrityFinding[]> {
    const { store, clock } = this.parts;
    const { fromSequence, toSequence, removed } = await acceptSecret(store, this.#parts().manifest, secretName);
    this.#reports.settled();
    this.#reports.tell({ type: 'restore-accepted', at: clock.now(), secretName, fromSequence, toSequence, reason });
    return removed;
  }

  #parts(): Opened {
    if (this.#opened === undefined)
      throw new StoreIntegrityError('MANIFEST_LOST', 'The store was used before it was opened.');
    return this.#opened;
  }
}
