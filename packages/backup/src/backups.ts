import {
  type BackupDesk,
  type BackupSummary,
  type ImportOptions,
  type ImportReport,
  verifyBackup,
} from '@nestjs-secrets/core';
import { type BackupKey, type BackupLock, decrypterFor, encrypterFor } from './age-encryption.js';
import { NewFile, openFile } from './backup-file.js';

/** A `SecretsManager`, in the name of whoever makes or imports the backup: see `SecretsManager.as`. */
export interface BackupManager {
  readonly backup: Pick<BackupDesk, 'exportStore' | 'importStore'>;
}

export type ExportStoreOptions = BackupLock & {
  /** Where it is to be. The folder must be there. */
  readonly file: string;
  /** Puts it in the place of a file that is there; false by default. */
  readonly overwrite?: boolean;
};

export type ImportStoreOptions = BackupKey & ImportOptions & { readonly file: string };

export type InspectBackupOptions = BackupKey & {
  readonly file: string;
  /** The public keys of the stores that are believed; without it, any is, and `signedBy` of the summary says which it was. */
  readonly signedBy?: string | readonly string[];
};

/**
 * Makes a backup of the whole store while the application goes on, in one encrypted file with mode 0600, which is there as a whole or not at all. Keep `signedBy` of what is
 * returned with the identity that opens it: an import asks for both.
 *
 * Takes `secrets:ExportStore`, and `secrets:GetSecretValue` for every secret.
 * @throws BackupError `BACKUP_FILE`, `BACKUP_OPTIONS_INVALID`, `BACKUP_INCOMPLETE`; AccessDeniedError; AuditUnavailableError: then there is no file
 */
export async function exportStore(manager: BackupManager, options: ExportStoreOptions): Promise<BackupSummary> {
  const { file: path, overwrite = false } = options;
  const encrypt = encrypterFor(options);
  const file = new NewFile(path, overwrite);
  try {
    const summary = await manager.backup.exportStore(async (content) => {
      await file.check();
      await file.write(await encrypt(content));
    });
    await file.place();
    return summary;
  } finally {
    await file.discard();
  }
}

/**
 * Imports a backup into a store, which may be on another driver and under other keys. The whole file is verified before anything is imported. An import that was broken off
 * goes on when it is called again with the same file.
 *
 * Takes `secrets:ImportStore`, which lets its holder set every secret and policy.
 * @throws BackupError `BACKUP_FILE`, `BACKUP_LOCKED`, `BACKUP_INVALID`, `BACKUP_NEWER`, `BACKUP_SIGNER_UNKNOWN`, `IMPORT_CONFLICT`, `IMPORT_UNFINISHED`, `IMPORT_BUSY`;
 *   AccessDeniedError
 */
export async function importStore(manager: BackupManager, options: ImportStoreOptions): Promise<ImportReport> {
  const decrypt = decrypterFor(options);
  const { signedBy, onConflict } = options;
  return withFile(options.file, (chunks) =>
    manager.backup.importStore(() => decrypt(chunks()), {
      signedBy,
      ...(onConflict === undefined ? {} : { onConflict }),
    }),
  );
}

/**
 * Reads a whole backup without importing it: what is in it, from when and from which store. Run it on every backup, where the identity is: one that nobody has opened is a hope.
 * @throws BackupError as `importStore`
 */
export async function inspectBackup(options: InspectBackupOptions): Promise<BackupSummary> {
  const decrypt = decrypterFor(options);
  const { signedBy } = options;
  const believed = typeof signedBy === 'string' ? [signedBy] : signedBy;
  return withFile(options.file, async (chunks) => (await verifyBackup(() => decrypt(chunks()), believed)).summary);
}

/** Opened once, so that what is verified is the file that is imported. */
async function withFile<T>(path: string, work: (chunks: () => AsyncIterable<Uint8Array>) => Promise<T>): Promise<T> {
  const file = await openFile(path);
  try {
    return await work(file.chunks);
  } finally {
    await file.close();
  }
}
