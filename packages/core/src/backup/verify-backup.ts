import { isSecretsError } from '../foundation/errors.js';
import { BackupError, invalidBackup } from './backup-errors.js';
import { FrameReader } from './backup-frames.js';
import {
  type BackupEnd,
  type BackupHeader,
  type BackupIdentityPolicy,
  type BackupSecret,
  type LeftOut,
  parseEnd,
  parseHeader,
  parseIdentityPolicy,
  parseSecret,
} from './backup-records.js';
import { isBackupSignature, parseBackupKey } from './backup-signature.js';

/** What a backup holds, without anything secret. */
export interface BackupSummary {
  /** SHA-256 of its contents, in hex: what an export records in the audit log. The same contents encrypted again have the same. */
  readonly digest: string;
  readonly storeId: string;
  /** When the export began, in milliseconds since the epoch. */
  readonly createdAt: number;
  /** The public key of the store that it is from. */
  readonly signedBy: string;
  readonly secrets: number;
  readonly versions: number;
  /** Identity policies; those of secrets go with them. */
  readonly policies: number;
  /** What could not be read when it was made, and is not in it. */
  readonly leftOut: readonly LeftOut[];
}

/** The plain contents of a backup, from the beginning, each time they are asked for. */
export type BackupContent = () => AsyncIterable<Uint8Array>;

/** A secret with the encoded values of its versions, in their order; the caller zeroes them. */
export interface BackupUnit {
  readonly secret: BackupSecret;
  readonly values: readonly Buffer[];
}

export interface VerifiedBackup {
  readonly summary: BackupSummary;
  readonly policies: readonly BackupIdentityPolicy[];
  /** Whether policies govern where it is imported. */
  readonly enforced: boolean;
  /** For each secret the digest of all that had been read after it: what proves, when it is read again, that it is what was verified. */
  readonly marks: Buffer;
}

export const MARK_BYTES = 32;
const JSON_TAG = 0x6a;
const BINARY_TAG = 0x62;

/**
 * Reads a whole backup and makes sure that it is whole and from whom it says. `signedBy` are the keys of the stores that are believed; without it, any is, and the summary
 * says which it was.
 * @throws BackupError
 */
export async function verifyBackup(content: BackupContent, signedBy?: readonly string[]): Promise<VerifiedBackup> {
  for (const key of signedBy ?? []) requireKey(key);
  const reader = new FrameReader(content());
  try {
    const { header, end, policies, marks } = await readFrames(reader);
    if (end.policies !== policies.length) throw invalidBackup('it has fewer or more policies than it says');
    const digest = reader.digest();
    await checkSignature(reader, header, digest);
    if (signedBy !== undefined && !signedBy.includes(header.signedBy)) {
      throw new BackupError(
        'BACKUP_SIGNER_UNKNOWN',
        `The backup is from the store ${header.storeId} and signed by ${header.signedBy}, which is none of the keys that were given. Compare it with what the export reported, or with its event in the audit log. Nothing was imported.`,
      );
    }
    const { storeId, createdAt } = header;
    const { secrets, versions, leftOut, enforced } = end;
    const summary = {
      digest: digest.toString('hex'),
      storeId,
      createdAt,
      signedBy: header.signedBy,
      secrets,
      versions,
      policies: policies.length,
      leftOut,
    };
    return { summary, policies, enforced, marks };
  } finally {
    await reader.close();
  }
}

/**
 * The secrets of a backup that was verified, read again; one that differs from what was verified is not handed out.
 * @throws BackupError
 */
export async function* unitsOf(content: BackupContent, { summary, marks }: VerifiedBackup): AsyncGenerator<BackupUnit> {
  const reader = new FrameReader(content());
  try {
    await reader.next();
    for (let index = 0; index < summary.secrets; index += 1) {
      const unit = await readUnit(reader, (await reader.next())?.head ?? {}).catch((error: unknown) => {
        throw isSecretsError(error, 'BACKUP_INVALID') ? changedMeanwhile() : error;
      });
      const mark = marks.subarray(index * MARK_BYTES, (index + 1) * MARK_BYTES);
      if (!reader.digest().equals(mark)) {
        for (const value of unit.values) value.fill(0);
        throw changedMeanwhile();
      }
      yield unit;
    }
  } finally {
    await reader.close();
  }
}

function changedMeanwhile(): BackupError {
  return new BackupError(
    'BACKUP_INVALID',
    'The backup was changed while it was imported. What was imported is sound; import the file that was meant to go on.',
  );
}

interface Frames {
  readonly header: BackupHeader;
  readonly end: BackupEnd;
  readonly policies: readonly BackupIdentityPolicy[];
  readonly marks: Buffer;
}

async function readFrames(reader: FrameReader): Promise<Frames> {
  const header = parseHeader((await reader.next())?.head);
  const policies: BackupIdentityPolicy[] = [];
  const marks = new Marks();
  let lastName = '';
  let versions = 0;
  for (;;) {
    const frame = await reader.next();
    if (frame === undefined) throw invalidBackup('its end is missing');
    const { kind } = frame.head;
    if (kind === 'secret' && policies.length === 0) {
      const { secret, values } = await readUnit(reader, frame.head);
      for (const value of values) value.fill(0);
      const { name } = secret.record;
      // In the order of the names, so that none is there twice.
      if (name <= lastName) throw invalidBackup('its secrets are not in order');
      lastName = name;
      versions += values.length;
      marks.add(reader.digest());
    } else if (kind === 'policy') policies.push(parseIdentityPolicy(frame.head));
    else if (kind === 'end') {
      const end = parseEnd(frame.head);
      if (end.secrets !== marks.count || end.versions !== versions)
        throw invalidBackup('it has fewer or more secrets than it says');
      return { header, end, policies, marks: marks.bytes() };
    } else throw invalidBackup('there is something in it that does not belong there');
  }
}

async function readUnit(reader: FrameReader, head: Readonly<Record<string, unknown>>): Promise<BackupUnit> {
  if (head['kind'] !== 'secret') throw invalidBackup('there is something in it that does not belong there');
  const secret = parseSecret(head);
  const { name, versions } = secret.record;
  const values: Buffer[] = [];
  try {
    for (const { id } of versions) {
      const frame = await reader.next();
      const body = frame?.body;
      if (body !== undefined) values.push(body);
      const isOfIt = frame?.head['kind'] === 'value' && frame.head['versionId'] === id;
      if (!isOfIt || body === undefined || (body[0] !== JSON_TAG && body[0] !== BINARY_TAG))
        throw invalidBackup(`a value of ${name} is missing`);
    }
    return { secret, values };
  } catch (error) {
    for (const value of values) value.fill(0);
    throw error;
  }
}

async function checkSignature(reader: FrameReader, { signedBy }: BackupHeader, digest: Buffer): Promise<void> {
  const last = (await reader.next())?.head;
  const { kind, sha256, signature } = last ?? {};
  const key = parseBackupKey(signedBy);
  if (kind !== 'signature' || typeof signature !== 'string' || key === undefined)
    throw invalidBackup('its signature is missing');
  const raw = Buffer.from(signature, 'base64');
  // One signature has one text: not a bit of a backup is other than it was written.
  const isExact = raw.toString('base64') === signature && sha256 === digest.toString('hex');
  if (!isExact || !isBackupSignature(key, digest, raw)) throw invalidBackup('its signature is of something else');
  if ((await reader.next()) !== undefined) throw invalidBackup('there is something after its end');
}

function requireKey(key: string): void {
  if (parseBackupKey(key) !== undefined) return;
  throw new BackupError(
    'BACKUP_SIGNER_UNKNOWN',
    'That is not the public key of a store: give signedBy as the export reported it, ed25519: and 43 characters.',
  );
}

/** Digests side by side, 32 bytes a secret. */
class Marks {
  #bytes = Buffer.alloc(64 * MARK_BYTES);
  count = 0;

  add(mark: Buffer): void {
    const at = this.count * MARK_BYTES;
    if (at === this.#bytes.length) {
      const larger = Buffer.alloc(2 * at);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(mark, at);
    this.count += 1;
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.count * MARK_BYTES);
  }
}
