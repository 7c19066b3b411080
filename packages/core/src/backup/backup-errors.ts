import { SecretsError } from '../foundation/errors.js';

/** What can be the matter with a backup, or with what is to be done with it. */
export type BackupErrorCode =
  /** It is not whole, not genuine, or not what its format allows. */
  | 'BACKUP_INVALID'
  /** A later version of this library wrote it. */
  | 'BACKUP_NEWER'
  /** It is sound, and another store signed it. */
  | 'BACKUP_SIGNER_UNKNOWN'
  /** What would have to be in it cannot be read. */
  | 'BACKUP_INCOMPLETE'
  /** It does not open with the identity or passphrase that was given. */
  | 'BACKUP_LOCKED'
  /** The file cannot be read or written, or there is one already. */
  | 'BACKUP_FILE'
  /** Recipients, identities or passphrases that are none. */
  | 'BACKUP_OPTIONS_INVALID'
  /** The store holds what the backup would bring. */
  | 'IMPORT_CONFLICT'
  /** The import of another backup into this store was not finished. */
  | 'IMPORT_UNFINISHED'
  /** Another process imports into this store. */
  | 'IMPORT_BUSY';

/** Its `code` says which of them. */
export class BackupError extends SecretsError {
  constructor(code: BackupErrorCode, message: string, options: { cause?: unknown; secretName?: string } = {}) {
    super(code, message, options);
  }
}

/** The one error for a backup that cannot be trusted, whatever is wrong with it. */
export function invalidBackup(what: string): BackupError {
  return new BackupError('BACKUP_INVALID', `This is not a whole and genuine backup: ${what}. Nothing was imported.`);
}
