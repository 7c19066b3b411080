import type { PolicyStore } from '../access/policy-store.js';
import type { Clock } from '../foundation/clock.js';
import { StoreContentionError } from '../foundation/errors.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import type { StoreCondition, StoreWrite } from '../store/store-driver.js';
import { distinct } from '../versions/record-writes.js';
import type { GuardedWrite } from '../versions/sealed-values.js';
import type { VersionStore } from '../versions/version-store.js';
import { BackupError } from './backup-errors.js';
import { busyImport, findMarker, IMPORT_KEY, type ImportMarker, markerBytes } from './import-marker.js';
import { type PreparedSecret, prepareSecret } from './prepared-secret.js';
import {
  type BackupContent,
  type BackupSummary,
  type BackupUnit,
  unitsOf,
  type VerifiedBackup,
} from './verify-backup.js';

export interface ImportOptions {
  /** The public keys of the stores whose backups are believed, as an export reports them in `signedBy`. */
  readonly signedBy: string | readonly string[];
  /**
   * `refuse` (the default): the store must hold neither secrets nor policies. `skip`: what it holds stays as it is, and only what is missing comes from the backup.
   */
  readonly onConflict?: 'refuse' | 'skip';
}

export interface ImportReport {
  readonly backup: BackupSummary;
  /** Secrets that came from the backup, those of an earlier run of this import included. */
  readonly imported: number;
  /** Secrets that were there and stay as they are. */
  readonly skipped: number;
  /** Master keys that secrets had, as they were called, and that this store does not have; those secrets are under the default key now. */
  readonly missingKeys: readonly string[];
  /** Whether it went on from where an earlier run was broken off. */
  readonly resumed: boolean;
}

export interface StoreImportParts {
  readonly versions: VersionStore;
  readonly journal: RotationJournal;
  readonly policies: PolicyStore;
  readonly clock: Clock;
}

const ATTEMPTS = 50;
/** One commit takes so much; each secret in it is a path of the manifest. */
const BATCH_SECRETS = 16;
const BATCH_VALUES = 64;
const BATCH_BYTES = 512 * 1024;
const POLICIES_AT_ONCE = 32;
const SHOWN = 5;

/**
 * Brings what a backup holds into a store: each secret in one commit, which also says how far the import has come. So one that is broken off goes on where it was, and no
 * two go on at once.
 */
export class StoreImport {
  readonly #isRefusing: boolean;
  #marker: ImportMarker;
  #revision = 0;

  constructor(
    private readonly parts: StoreImportParts,
    private readonly content: BackupContent,
    private readonly verified: VerifiedBackup,
    onConflict: 'refuse' | 'skip' = 'refuse',
  ) {
    this.#isRefusing = onConflict === 'refuse';
    const { digest } = verified.summary;
    this.#marker = { format: 1, digest, startedAt: parts.clock.now(), done: 0, skipped: 0, missingKeys: [] };
  }

  /** @throws BackupError, StoreUnavailableError, KeyUnavailableError */
  async run(): Promise<ImportReport> {
    const resumed = await this.#begin();
    await this.#importPolicies();
    let index = 0;
    let batch: BackupUnit[] = [];
    const units = unitsOf(this.content, this.verified);
    try {
      for await (const unit of units) {
        index += 1;
        if (index <= this.#marker.done) zero([unit]);
        else {
          if (isFull([...batch, unit])) batch = await this.#import(batch);
          batch.push(unit);
        }
      }
      await this.#import(batch);
    } finally {
      zero(batch);
    }
    await this.#mark({ ...this.#marker, finishedAt: this.parts.clock.now() });
    const { done, skipped, missingKeys } = this.#marker;
    return { backup: this.verified.summary, imported: done - skipped, skipped, missingKeys, resumed };
  }

  /** Says in the store what begins, unless it goes on. */
  async #begin(): Promise<boolean> {
    const { versions, policies, clock } = this.parts;
    const { marker, revision } = await findMarker(versions.store);
    this.#revision = revision;
    const isUnfinished = marker !== undefined && marker.finishedAt === undefined;
    if (isUnfinished && marker.digest === this.#marker.digest) {
      this.#marker = marker;
      return true;
    }
    if (this.#isRefusing) {
      if (isUnfinished) {
        throw new BackupError(
          'IMPORT_UNFINISHED',
          `The import of another backup (digest ${marker.digest}) into this store was broken off. Import that one again to finish it; or give onConflict: 'skip' to leave what came from it as it is.`,
        );
      }
      const found = await versions.list({ prefix: '', limit: SHOWN });
      if (found.length > 0) throw conflict(found.map(({ name }) => `the secret ${name}`));
      await policies.refresh();
      if (!policies.isEmpty) throw conflict(['policies']);
    }
    await this.#mark({ ...this.#marker, startedAt: clock.now() });
    return false;
  }

  /** Before any secret, so that none is there without what protects it. */
  async #importPolicies(): Promise<void> {
    const { policies, enforced } = this.verified;
    for (let from = 0; from < policies.length; from += POLICIES_AT_ONCE)
      await this.#restorePolicies(
        policies.slice(from, from + POLICIES_AT_ONCE).map((policy) => ({ ...policy, kind: 'identity' as const })),
      );
    if (enforced && policies.length === 0) await this.#restorePolicies([]);
  }

  async #restorePolicies(policies: Parameters<PolicyStore['restorePolicies']>[0]): Promise<void> {
    const { others } = await this.parts.policies.restorePolicies(policies, !this.#isRefusing);
    if (this.#isRefusing && others.length > 0) throw conflict(others);
  }

  /** Returns an empty batch. */
  async #import(batch: BackupUnit[]): Promise<BackupUnit[]> {
    for (let attempt = 0; attempt < ATTEMPTS && batch.length > 0; attempt += 1) {
      const prepared: PreparedSecret[] = [];
      for (const unit of batch) {
        const one = await prepareSecret(this.parts, unit);
        if (one !== undefined) prepared.push(one);
        else if (this.#isRefusing) throw conflict([`the secret ${unit.secret.record.name}`]);
      }
      if (await this.#commit(batch.length, prepared)) {
        zero(batch);
        return [];
      }
      // It may have been a master key that changed, or a secret that somebody made.
      this.parts.versions.keys.invalidate();
    }
    if (batch.length === 0) return batch;
    throw new StoreContentionError(batch[0]?.secret.record.name ?? '');
  }

  async #commit(secrets: number, prepared: readonly PreparedSecret[]): Promise<boolean> {
    const policies = prepared.flatMap(({ policy }) => policy ?? []);
    if (policies.length > 0) await this.#restorePolicies(policies);
    const sealed = prepared.flatMap((one) => one.sealed);
    const conditions = [...prepared.flatMap((one) => one.conditions), ...sealed.flatMap((one) => one.conditions ?? [])];
    const isLarge = sealed.reduce((sum, { value }) => sum + (value?.length ?? 0), 0) > 2 * BATCH_BYTES;
    // What no store takes at once: the values first, which nobody sees without the record.
    for (const part of isLarge ? parts(sealed) : [])
      if (
        !(await this.#put(
          this.#marker,
          part.flatMap((one) => one.conditions ?? []),
          part,
        ))
      )
        return false;
    const { done, skipped, missingKeys } = this.#marker;
    const marker = {
      ...this.#marker,
      done: done + secrets,
      skipped: skipped + secrets - prepared.length,
      missingKeys: [...new Set([...missingKeys, ...prepared.flatMap(({ missingKey }) => missingKey ?? [])])],
    };
    const writes = [...prepared.flatMap((one) => one.writes), ...(isLarge ? [] : sealed)];
    return this.#put(marker, conditions, writes);
  }

  async #mark(marker: ImportMarker): Promise<void> {
    if (!(await this.#put(marker, [], []))) throw busyImport();
  }

  /**
   * False when a condition did not hold.
   * @throws BackupError `IMPORT_BUSY`
   */
  async #put(
    marker: ImportMarker,
    conditions: readonly StoreCondition[],
    writes: readonly StoreWrite[],
  ): Promise<boolean> {
    const { store } = this.parts.versions;
    const revision = await store.commit({
      conditions: distinct([{ key: IMPORT_KEY, revision: this.#revision }, ...conditions]),
      writes: [{ key: IMPORT_KEY, value: markerBytes(marker) }, ...writes.map(({ key, value }) => ({ key, value }))],
    });
    if (revision !== undefined) {
      [this.#marker, this.#revision] = [marker, revision];
      return true;
    }
    if ((await findMarker(store)).revision !== this.#revision) throw busyImport();
    return false;
  }
}

/** In parts that a store takes at once. */
function parts(sealed: readonly GuardedWrite[]): GuardedWrite[][] {
  const found: GuardedWrite[][] = [];
  let bytes = BATCH_BYTES;
  for (const write of sealed) {
    bytes += write.value?.length ?? 0;
    if (bytes > BATCH_BYTES) {
      found.push([]);
      bytes = write.value?.length ?? 0;
    }
    found.at(-1)?.push(write);
  }
  return found;
}

function isFull(batch: readonly BackupUnit[]): boolean {
  const values = batch.flatMap((unit) => unit.values);
  const bytes = values.reduce((sum, { length }) => sum + length, 0);
  return batch.length > 1 && (batch.length > BATCH_SECRETS || values.length > BATCH_VALUES || bytes > BATCH_BYTES);
}

function zero(units: readonly BackupUnit[]): void {
  for (const { values } of units) for (const value of values) value.fill(0);
}

function conflict(what: readonly string[]): BackupError {
  return new BackupError(
    'IMPORT_CONFLICT',
    `The store is not empty: it has ${what.slice(0, SHOWN).join(', ')}${what.length >= SHOWN ? ' and more' : ''}. Import into an empty store, or give onConflict: 'skip' to keep what is there and import only what is missing.`,
  );
}
