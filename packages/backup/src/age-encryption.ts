import { BackupError, type BackupErrorCode, isSecretsError } from '@nestjs-secrets/core';
import { Decrypter, Encrypter, generateIdentity, identityToRecipient } from 'age-encryption';
import { passphraseIdentity, passphraseRecipient } from './passphrase-stanza.js';

/**
 * Who can open a backup: the holders of the identities behind these recipients, or of a passphrase. With recipients, the host that makes a backup cannot read it.
 */
export type BackupLock =
  /** `age1…`, or `age1pq1…` of the hybrid post-quantum kind, one or more; each opens it alone. */
  | { readonly recipients: string | readonly string[]; readonly passphrase?: undefined }
  /** At least 16 characters; a generated one, since whoever has the file can try as many as he likes. */
  | { readonly passphrase: string; readonly recipients?: undefined };

/** What opens a backup. */
export type BackupKey =
  /** `AGE-SECRET-KEY-1…` or `AGE-SECRET-KEY-PQ-1…`; of several, the one that fits. */
  | { readonly identity: string | readonly string[]; readonly passphrase?: undefined }
  | { readonly passphrase: string; readonly identity?: undefined };

export interface BackupIdentity {
  /** The private half: keep it away from the application's host, in two places. */
  readonly identity: string;
  /** The public half, for `recipients`. */
  readonly recipient: string;
}

const SHORTEST_PASSPHRASE = 16;

/** A key pair for backups, as `age-keygen` makes them. */
export async function generateBackupIdentity(): Promise<BackupIdentity> {
  const identity = await generateIdentity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/**
 * Encrypts for a lock, in the age format (https://age-encryption.org/v1).
 * @throws BackupError `BACKUP_OPTIONS_INVALID`
 */
export function encrypterFor({ recipients, passphrase }: BackupLock): (content: Chunks) => Promise<Chunks> {
  const encrypter = new Encrypter();
  if ((recipients === undefined) === (passphrase === undefined))
    throw optionsError('Give either the recipients of a backup or a passphrase.');
  if (passphrase !== undefined) {
    if (passphrase.length < SHORTEST_PASSPHRASE)
      throw optionsError(`The passphrase of a backup has at least ${SHORTEST_PASSPHRASE} characters.`);
    encrypter.addRecipient(passphraseRecipient(passphrase));
  }
  const all = typeof recipients === 'string' ? [recipients] : (recipients ?? []);
  if (passphrase === undefined && all.length === 0) throw optionsError('A backup needs at least one recipient.');
  for (const [index, recipient] of all.entries()) {
    // What the library says may quote what it was given, which may be an identity given by mistake.
    attempt(`Recipient ${index + 1} is none of age: it begins with age1.`, () => encrypter.addRecipient(recipient));
  }
  return async (content) => chunksOf(await encrypter.encrypt(streamOf(content)));
}

/**
 * Decrypts with a key. What comes is authentic piece by piece; that it is whole is known at its end.
 * @throws BackupError `BACKUP_OPTIONS_INVALID`; while it is read, `BACKUP_LOCKED` and `BACKUP_INVALID`
 */
export function decrypterFor({ identity, passphrase }: BackupKey): (content: Chunks) => Chunks {
  const decrypter = new Decrypter();
  if ((identity === undefined) === (passphrase === undefined))
    throw optionsError('Give either the identity that opens a backup or its passphrase.');
  if (passphrase !== undefined) decrypter.addIdentity(passphraseIdentity(passphrase));
  for (const [index, one] of (typeof identity === 'string' ? [identity] : (identity ?? [])).entries())
    attempt(`Identity ${index + 1} is none of age: it begins with AGE-SECRET-KEY-.`, () => decrypter.addIdentity(one));
  return (content) => decrypted(decrypter, content);
}

type Chunks = AsyncIterable<Uint8Array>;

async function* decrypted(decrypter: Decrypter, content: Chunks): AsyncGenerator<Uint8Array> {
  try {
    yield* chunksOf(await decrypter.decrypt(streamOf(content)));
  } catch (error) {
    // Of the file itself, as when its disk fails.
    if (isSecretsError(error)) throw error;
    throw isLocked(error)
      ? new BackupError(
          'BACKUP_LOCKED',
          'The backup does not open with this identity or passphrase. It was made for others, or it is none.',
        )
      : new BackupError(
          'BACKUP_INVALID',
          'The backup is not what was written: it is truncated or changed, or not a file of age. Take another copy of it.',
        );
  }
}

function isLocked(error: unknown): boolean {
  return (
    typeof error === 'object' &&
    error !== null &&
    'message' in error &&
    /no identity matched/.test(String(error.message))
  );
}

/** One chunk at a time is on its way, and the one before it was dealt with when the next is asked for. */
function streamOf(content: Chunks): ReadableStream<Uint8Array> {
  const chunks = content[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      async cancel() {
        await chunks.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let isOver = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isOver = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!isOver) await reader.cancel().catch(() => undefined);
    reader.releaseLock();
  }
}

function attempt(message: string, work: () => void): void {
  try {
    work();
  } catch {
    throw optionsError(message);
  }
}

function optionsError(message: string): BackupError {
  const code: BackupErrorCode = 'BACKUP_OPTIONS_INVALID';
  return new BackupError(code, message);
}
