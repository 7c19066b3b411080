import { isSecretsError } from '../foundation/errors.js';
import type { StoreDriver } from '../store/store-driver.js';
import { kindOf } from './entry-kinds.js';
import {
  findingAt,
  type IntegrityFinding,
  type IntegrityFindingKind,
  TamperedRecordError,
} from './integrity-findings.js';
import type { KnownRoot, Manifest } from './manifest.js';
import type { Leaf } from './manifest-leaf.js';
import { allEntries } from './manifest-nodes.js';
import { childPath } from './manifest-place.js';
import { readRoot, ROOT_BYTES, ROOT_KEY, TOP_KEY } from './manifest-root.js';
import type { RecordReader } from './record-reader.js';
import { openRecord } from './record-seal.js';

/** A state of a store, to be kept elsewhere: in a signed checkpoint of the audit log, in a file, in a mail to oneself. It holds nothing secret. */
export interface StoreHead {
  readonly storeId: string;
  /** Counts the changes of the store. */
  readonly sequence: number;
  /** The MAC of the root of the manifest, in base64. */
  readonly mac: string;
}

const HEAD_LINE = /^store (\S+) change (\d{1,16}) root (\S+)$/;

/** A state as one line of text, as the checkpoints of the audit log carry it. */
export function printStoreHead({ storeId, sequence, mac }: StoreHead): string {
  return `store ${storeId} change ${sequence} root ${mac}`;
}

/** The states among lines of text, such as the `extensions` of checkpoints; other lines are passed over. */
export function storeHeadsIn(lines: Iterable<string>): StoreHead[] {
  const heads: StoreHead[] = [];
  for (const line of lines) {
    const [, storeId, sequence, mac] = HEAD_LINE.exec(line) ?? [];
    if (storeId !== undefined && mac !== undefined) heads.push({ storeId, sequence: Number(sequence), mac });
  }
  return heads;
}

export interface VerifyStoreOptions {
  /** States that were written down before: the store must not be older than any of them. */
  readonly anchors?: readonly StoreHead[];
}

export interface StoreVerification {
  /** The state that was verified; undefined when nothing proves any. */
  readonly head: StoreHead | undefined;
  /** How many entries were looked at. */
  readonly entries: number;
  /** How many secrets have a head. */
  readonly secrets: number;
  /** Everything that was found, in no particular order; empty for a store in which all is well. */
  readonly findings: readonly IntegrityFinding[];
}

export interface VerifyParts {
  readonly store: StoreDriver;
  readonly storeId: string;
  readonly manifest: Manifest;
  readonly reader: RecordReader;
}

const SHUT: Record<string, IntegrityFindingKind> = {
  STORE_ROLLED_BACK: 'store-rolled-back',
  STORE_FORKED: 'store-forked',
  MANIFEST_LOST: 'manifest-damaged',
};

/** Looks at every entry and every node, and goes on whatever it finds. Others may write meanwhile. */
export class StoreVerifier {
  readonly #findings = new Map<string, IntegrityFinding>();
  #entries = 0;
  #secrets = 0;

  constructor(private readonly parts: VerifyParts) {}

  /** @throws StoreUnavailableError */
  async verify({ anchors = [] }: VerifyStoreOptions): Promise<StoreVerification> {
    const known = await this.#root();
    if (known !== undefined) {
      this.#checkAnchors(known, anchors);
      await this.#checkCopies();
      await this.#walk('');
    }
    for await (const page of allEntries(this.parts.store)) {
      for (const { key, value } of page) {
        const kind = kindOf(key);
        if (kind === 'own' || kind === 'plain') continue;
        this.#entries += 1;
        if (key.startsWith('secret/')) this.#secrets += 1;
        if (kind === 'listed' && known !== undefined) {
          await this.#settle(key);
          continue;
        }
        const { state } = openRecord(this.parts.manifest.keys, key, value);
        if (state !== 'authentic') this.#found(state === 'changed' ? 'record-changed' : 'record-downgraded', key);
      }
    }
    const head = known && {
      storeId: this.parts.storeId,
      sequence: known.root.sequence,
      mac: known.root.mac.toString('base64'),
    };
    return { head, entries: this.#entries, secrets: this.#secrets, findings: [...this.#findings.values()] };
  }

  async #root(): Promise<KnownRoot | undefined> {
    try {
      return await this.parts.manifest.refresh();
    } catch (error) {
      const kind = isSecretsError(error) ? SHUT[error.code] : undefined;
      if (kind === undefined) throw error;
      this.#found(kind, ROOT_KEY);
      return undefined;
    }
  }

  #checkAnchors({ root }: KnownRoot, anchors: readonly StoreHead[]): void {
    for (const { storeId, sequence, mac } of anchors) {
      if (storeId !== this.parts.storeId || (sequence === root.sequence && mac !== root.mac.toString('base64')))
        this.#found('store-forked', ROOT_KEY);
      else if (sequence > root.sequence) this.#found('store-rolled-back', ROOT_KEY);
    }
  }

  /** The root stands in two places, and one of them may have been changed by itself. */
  async #checkCopies(): Promise<void> {
    const { store, manifest } = this.parts;
    for (let attempt = 0; ; attempt += 1) {
      const before = await store.get(ROOT_KEY);
      const top = await store.get(TOP_KEY);
      const after = await store.get(ROOT_KEY);
      if (before?.revision !== after?.revision && attempt < 20) continue;
      const copy = top && readRoot(manifest.keys, top.value.subarray(0, ROOT_BYTES));
      const own = after && readRoot(manifest.keys, after.value);
      if (own === undefined || (copy !== undefined && copy.sequence > own.sequence))
        this.#found('manifest-damaged', ROOT_KEY);
      if (copy === undefined || (own !== undefined && own.sequence > copy.sequence))
        this.#found('manifest-damaged', TOP_KEY);
      return;
    }
  }

  /** What the manifest names must be there. */
  async #walk(path: string): Promise<void> {
    const { manifest } = this.parts;
    const node = await this.#unlessTampered(manifest.consult(({ root }) => manifest.nodes.at(root, path)));
    if (node === undefined) return;
    if (node.type === 'leaf') {
      await this.#checkLeaf(node);
      return;
    }
    for (const [digit, digest] of node.children().entries())
      if (digest !== undefined) await this.#walk(childPath(path, digit));
  }

  async #checkLeaf(leaf: Leaf): Promise<void> {
    const { store } = this.parts;
    const keys = leaf.keys();
    // Those that are there are looked at when all entries are.
    const stored = await Promise.all(keys.map((key) => store.get(key)));
    for (const [index, key] of keys.entries()) if (stored[index] === undefined) await this.#settle(key);
  }

  async #settle(key: string): Promise<void> {
    const verdict = await this.#unlessTampered(this.parts.reader.settle(key));
    if (verdict !== undefined && 'fault' in verdict) this.#found(verdict.fault, key);
  }

  /** A part of the manifest that cannot be made anew is a finding of its own. */
  async #unlessTampered<R>(work: Promise<R>): Promise<R | undefined> {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof TamperedRecordError)) throw error;
      this.#findings.set(`${error.finding.kind} ${error.finding.key}`, error.finding);
      return undefined;
    }
  }

  #found(kind: IntegrityFindingKind, key: string): void {
    this.#findings.set(`${kind} ${key}`, findingAt(kind, key));
  }
}
