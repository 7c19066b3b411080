import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { PolicyStore } from '../access/policy-store.js';
import type { Clock } from '../foundation/clock.js';
import { isSecretsError, StoreContentionError } from '../foundation/errors.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import { NO_ROTATION, type RotationState } from '../rotation/rotation-state.js';
import { findVersion, removeVersion, type SecretRecord } from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';
import { BackupError } from './backup-errors.js';
import { encodeFrame, encodeLine } from './backup-frames.js';
import {
  BACKUP_FORMAT,
  BACKUP_VERSION,
  type BackupEnd,
  type BackupHeader,
  type BackupIdentityPolicy,
  type BackupPolicy,
  type BackupSecret,
  type LeftOut,
} from './backup-records.js';
import type { BackupSigner } from './backup-signature.js';
import type { BackupSummary, BackupUnit } from './verify-backup.js';

export interface StoreExportParts {
  readonly versions: VersionStore;
  readonly journal: RotationJournal;
  readonly policies: PolicyStore;
  readonly clock: Clock;
  readonly signer: BackupSigner;
  /** Rejects when the values of a secret may not leave; asked before they are read. */
  readonly permit: (record: SecretRecord) => Promise<void>;
}

const PAGE = 100;
/** So many secrets are read at once, and held in memory. */
const READ_AT_ONCE = 8;
const ATTEMPTS = 50;
/** What a single secret or version can suffer, without a doubt about the others. */
const UNREADABLE = ['RECORD_CORRUPT', 'KEY_MISMATCH', 'KEY_DISABLED', 'KEY_DESTROYED'];

interface Look {
  readonly record: SecretRecord | undefined;
  readonly state: RotationState | { readonly unreadable: string };
  readonly policy: BackupPolicy | undefined;
}

/** Writes a store as a backup, a few secrets at a time, while others write to it. */
export class StoreExport {
  readonly #leftOut: LeftOut[] = [];
  #summary: BackupSummary | undefined;

  constructor(private readonly parts: StoreExportParts) {}

  /** Undefined until the contents were read to their end. */
  get summary(): BackupSummary | undefined {
    return this.#summary;
  }

  /**
   * The contents, in chunks that are zeroed once the next one is asked for.
   * @throws BackupError `BACKUP_INCOMPLETE` for a policy that cannot be read; StoreUnavailableError, StoreIntegrityError
   */
  async *content(): AsyncGenerator<Uint8Array> {
    const { versions, clock, signer } = this.parts;
    const hash = createHash('sha256');
    const [createdAt, storeId] = [clock.now(), versions.keyring.storeId];
    const header: BackupHeader = {
      kind: 'header',
      format: BACKUP_FORMAT,
      version: BACKUP_VERSION,
      storeId,
      createdAt,
      signedBy: signer.publicKey,
    };
    const hashed = (chunk: Buffer): Buffer => {
      hash.update(chunk);
      return chunk;
    };
    yield hashed(encodeLine(header));
    let [secrets, valueCount] = [0, 0];
    for await (const { secret, values } of this.#units()) {
      secrets += 1;
      valueCount += values.length;
      yield hashed(encodeLine(secret));
      for (const [index, value] of values.entries()) {
        const frame = encodeFrame({ kind: 'value', versionId: secret.record.versions[index]?.id }, value);
        value.fill(0);
        try {
          yield hashed(frame);
        } finally {
          frame.fill(0);
        }
      }
    }
    // Last, so that what was made to protect a secret while this went on is among them.
    const policies = await this.#identityPolicies();
    for (const policy of policies) yield hashed(encodeLine(policy));
    const counts = { secrets, versions: valueCount, policies: policies.length };
    const enforced = this.parts.policies.sequence > 0;
    const end: BackupEnd = { kind: 'end', ...counts, enforced, leftOut: this.#leftOut };
    yield hashed(encodeLine(end));
    const digest = hash.digest();
    const sha256 = digest.toString('hex');
    yield encodeLine({ kind: 'signature', sha256, signature: signer.sign(digest).toString('base64') });
    this.#summary = {
      digest: sha256,
      storeId,
      createdAt,
      signedBy: signer.publicKey,
      ...counts,
      leftOut: this.#leftOut,
    };
  }

  async *#units(): AsyncGenerator<BackupUnit> {
    let after: string | undefined;
    for (;;) {
      const page = await this.parts.versions.list({
        prefix: '',
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      for (let from = 0; from < page.length; from += READ_AT_ONCE) {
        const names = page.slice(from, from + READ_AT_ONCE).map(({ name }) => name);
        const read = await Promise.allSettled(names.map((name) => this.#read(name)));
        const units = read.flatMap((one) => (one.status === 'fulfilled' && one.value ? [one.value] : []));
        try {
          for (const one of read) if (one.status === 'rejected') throw one.reason;
          yield* units;
        } finally {
          for (const { values } of units) for (const value of values) value.fill(0);
        }
      }
      after = page.at(-1)?.name;
      if (page.length < PAGE) return;
    }
  }

  /** One secret as it was at one moment; undefined when it is gone, or cannot be read. */
  async #read(name: string): Promise<BackupUnit | undefined> {
    // A version never gets another value, so what was opened once counts for the next attempt, even when it was removed since.
    const opened = new Map<string, Buffer>();
    let unit: BackupUnit | undefined;
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const look = await this.#look(name);
        if (look === undefined) continue;
        if (look.record === undefined) return undefined;
        const leftOut = await this.#open(look.record, opened);
        if (leftOut === undefined) continue;
        unit = await this.#unitOf(look.record, look, leftOut, opened);
        this.#leftOut.push(...leftOut);
        if ('unreadable' in look.state)
          this.#leftOut.push({ secretName: name, part: 'rotation', code: look.state.unreadable });
        return unit;
      }
      throw new StoreContentionError(name);
    } finally {
      const kept = new Set(unit?.values);
      for (const value of opened.values()) if (!kept.has(value)) value.fill(0);
    }
  }

  /** Record, journal and policy as they were together: the others are the same before and after the record. Undefined when they were not. */
  async #look(name: string): Promise<Look | undefined> {
    const { versions } = this.parts;
    const policy = await this.#secretPolicy(name);
    try {
      const state = await this.#journal(name);
      const record = (await versions.find(name))?.record;
      if (record !== undefined) await this.parts.permit(record);
      const isSame = isDeepStrictEqual(await this.#journal(name), state);
      return isSame && isDeepStrictEqual(await this.#secretPolicy(name), policy)
        ? { record, state, policy }
        : undefined;
    } catch (error) {
      this.#leftOut.push({ secretName: name, code: codeOfUnreadable(error) });
      return { record: undefined, state: NO_ROTATION, policy };
    }
  }

  /** A damaged journal must not cost the values. */
  async #journal(name: string): Promise<RotationState | { readonly unreadable: string }> {
    try {
      return await this.parts.journal.read(name);
    } catch (error) {
      return { unreadable: codeOfUnreadable(error) };
    }
  }

  /** Opens what is not open yet. Undefined when a version was removed before that; otherwise those that cannot be opened. */
  async #open(record: SecretRecord, opened: Map<string, Buffer>): Promise<LeftOut[] | undefined> {
    const { versions } = this.parts;
    const { name } = record;
    const leftOut: LeftOut[] = [];
    // The oldest first, since they go first.
    for (const { id } of record.versions) {
      if (opened.has(id)) continue;
      try {
        opened.set(id, await versions.openEncoded(name, id));
      } catch (error) {
        const code = codeOfUnreadable(error);
        const now = await versions.find(name).catch(() => undefined);
        if (now === undefined || findVersion(now.record, id) === undefined) return undefined;
        leftOut.push({ secretName: name, versionId: id, code });
      }
    }
    return leftOut;
  }

  async #unitOf(
    found: SecretRecord,
    { state, policy }: Look,
    leftOut: readonly LeftOut[],
    opened: ReadonlyMap<string, Buffer>,
  ): Promise<BackupUnit> {
    const record = leftOut.reduce((rest, { versionId = '' }) => removeVersion(rest, versionId), found);
    const rotation = 'unreadable' in state ? undefined : portableState(state, record);
    const secret: BackupSecret = {
      kind: 'secret',
      record: found.key === undefined ? record : { ...record, key: await this.#keyName(found.key) },
      ...(rotation === undefined ? {} : { rotation }),
      ...(policy === undefined ? {} : { policy }),
    };
    return { secret, values: record.versions.flatMap(({ id }) => opened.get(id) ?? []) };
  }

  /** How the key is called in other stores too. */
  async #keyName(id: string): Promise<string> {
    const found = await this.parts.versions.keys.records.find(id);
    return found?.record.aliases[0] ?? id;
  }

  async #secretPolicy(name: string): Promise<BackupPolicy | undefined> {
    const { policies } = this.parts;
    await policies.refresh();
    if (policies.isSecretPolicyCorrupt(name)) throw corruptPolicy(`the policy of the secret ${name}`);
    const found = policies.getSecretPolicy(name);
    return found && { document: found.document, updatedAt: found.updatedAt, updatedBy: found.updatedBy };
  }

  async #identityPolicies(): Promise<BackupIdentityPolicy[]> {
    const { policies } = this.parts;
    await policies.refresh();
    const { names, corrupt } = policies.listPolicies();
    if (corrupt[0] !== undefined) throw corruptPolicy(`the policy ${corrupt[0]}`);
    return names.flatMap((name) => {
      const found = policies.getPolicy(name);
      if (found === undefined) return [];
      const { principals, document, updatedAt, updatedBy } = found;
      return [{ kind: 'policy' as const, name, principals, document, updatedAt, updatedBy }];
    });
  }
}

/** Without the lease, which is an instance's of this store, and without what depends on versions that could not be read. */
function portableState({ lease: _left, ...state }: RotationState, record: SecretRecord): RotationState | undefined {
  const isKnown = (versionId: string | undefined): boolean =>
    versionId === undefined || record.versions.some(({ id }) => id === versionId);
  const { active, obligations, ...rest } = state;
  const kept: RotationState = {
    ...rest,
    obligations: obligations.filter(({ versionId }) => isKnown(versionId)),
    ...(active !== undefined && isKnown(active.versionId) ? { active } : {}),
  };
  const isUnused = kept.obligations.length === 0 && Object.keys(kept).length === 3 && kept.failures === 0;
  return isUnused ? undefined : kept;
}

/** Passes on what concerns more than one secret, or may be over soon. */
function codeOfUnreadable(error: unknown): string {
  if (isSecretsError(error) && UNREADABLE.includes(error.code)) return error.code;
  throw error;
}

/** Without it, what it denies would be allowed where the backup is imported. */
function corruptPolicy(which: string): BackupError {
  return new BackupError(
    'BACKUP_INCOMPLETE',
    `${which[0]?.toUpperCase()}${which.slice(1)} cannot be read, and a backup without it would restore what it protects without protection. Set it again, or delete it, and export again.`,
  );
}
