import { createHash } from 'node:crypto';
import type { PolicyStore } from '../access/policy-store.js';
import type { Clock } from '../foundation/clock.js';
import { isSecretsError, StoreContentionError } from '../foundation/errors.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import type { RotationState } from '../rotation/rotation-state.js';
import { removeVersion, type SecretRecord } from '../versions/secret-record.js';
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
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const found = await this.#find(name);
      if (found === undefined) return undefined;
      await this.parts.permit(found.record);
      const unit = await this.#readOnce(found.record);
      // Values never change, and record and journal change together where they must agree: when the record is still the same, all of it was so at one moment.
      const now = await this.parts.versions.find(name).catch(() => undefined);
      if (now?.revision === found.revision) {
        this.#leftOut.push(...unit.leftOut);
        return unit;
      }
      for (const value of unit.values) value.fill(0);
    }
    throw new StoreContentionError(name);
  }

  async #find(name: string): Promise<{ record: SecretRecord; revision: number } | undefined> {
    try {
      return await this.parts.versions.find(name);
    } catch (error) {
      this.#leftOut.push({ secretName: name, code: codeOfUnreadable(error) });
      return undefined;
    }
  }

  async #readOnce(found: SecretRecord): Promise<BackupUnit & { readonly leftOut: readonly LeftOut[] }> {
    const { versions, journal } = this.parts;
    const { name } = found;
    const values: Buffer[] = [];
    const leftOut: LeftOut[] = [];
    try {
      const state = await journal.read(name);
      let record = found;
      for (const { id } of found.versions) {
        try {
          values.push(await versions.openEncoded(name, id));
        } catch (error) {
          leftOut.push({ secretName: name, versionId: id, code: codeOfUnreadable(error) });
          record = removeVersion(record, id);
        }
      }
      const key = found.key === undefined ? {} : { key: await this.#keyName(found.key) };
      const rotation = portableState(state, record);
      const policy = await this.#secretPolicy(name);
      const secret: BackupSecret = {
        kind: 'secret',
        record: { ...record, ...key },
        ...(rotation === undefined ? {} : { rotation }),
        ...(policy === undefined ? {} : { policy }),
      };
      return { secret, values, leftOut };
    } catch (error) {
      for (const value of values) value.fill(0);
      throw error;
    }
  }

  /** How the key is called in other stores too. */
  async #keyName(id: string): Promise<string> {
    const found = await this.parts.versions.keys.records.find(id);
    return found?.record.aliases[0] ?? id;
  }

  /** Looked up after the secret, so that one that has been protected since is not taken without its policy. */
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
