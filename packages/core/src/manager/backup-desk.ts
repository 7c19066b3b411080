import { secretResource, STORE_RESOURCE } from '../access/access-request.js';
import { BackupError } from '../backup/backup-errors.js';
import { backupSigner } from '../backup/backup-signature.js';
import { StoreExport } from '../backup/store-export.js';
import { type ImportOptions, type ImportReport, StoreImport } from '../backup/store-import.js';
import { type BackupContent, type BackupSummary, type VerifiedBackup, verifyBackup } from '../backup/verify-backup.js';
import type { Caller } from '../doors/caller.js';
import { type Asked, factsOf } from '../doors/door.js';
import { BACKUP_KEY_ENTRY, openOwnKey } from '../doors/own-keys.js';
import type { SecretRecord } from '../versions/secret-record.js';
import type { SecretsManagerParts } from './manager-parts.js';

/**
 * `SecretsManager.backup`: the contents of the store as one stream, **in the clear**, out of it and into another one. Use `exportStore` and `importStore` of
 * `@nestjs-secrets/backup`, which put it into an encrypted file. See docs/backup.md.
 */
export class BackupDesk {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  /**
   * Hands the contents to `write`, which reads them to their end and must keep nothing of them in the clear; a chunk is zeroed once the next one is asked for. Others may
   * write to the store meanwhile: each secret is as it was at one moment. Resolves once the event is recorded; until then, what was written must not count as a backup.
   *
   * Takes `secrets:ExportStore`, and `secrets:GetSecretValue` for every secret.
   * @throws BackupError `BACKUP_INCOMPLETE`; what `write` throws
   */
  exportStore(write: (content: AsyncIterable<Uint8Array>) => Promise<void>): Promise<BackupSummary> {
    const { door, versions, randomness } = this.parts;
    const asked: Asked = { operation: 'exportStore', resource: STORE_RESOURCE };
    return door.read(
      this.caller,
      asked,
      async () => {
        const seed = await openOwnKey(versions, BACKUP_KEY_ENTRY, randomness);
        const signer = backupSigner(seed);
        seed.fill(0);
        const store = new StoreExport({ ...this.parts, signer, permit: (record) => this.#permit(record) });
        await write(store.content());
        if (store.summary === undefined)
          throw new BackupError('BACKUP_INCOMPLETE', 'The contents of the store were not read to their end.');
        return store.summary;
      },
      ({ leftOut, ...summary }) => ({ additionalEventData: { ...summary, leftOut: leftOut.length } }),
    );
  }

  /**
   * Brings a backup into the store. `content` is read twice: once to make sure that all of it is whole and from whom it should be, and only then to import it. Broken off, it
   * goes on where it was when the same backup is imported again.
   * @throws BackupError; what `content` throws
   */
  async importStore(content: BackupContent, options: ImportOptions): Promise<ImportReport> {
    const { door } = this.parts;
    const { onConflict = 'refuse' } = options;
    const signedBy = typeof options.signedBy === 'string' ? [options.signedBy] : options.signedBy;
    const asked: Asked = {
      operation: 'importStore',
      resource: STORE_RESOURCE,
      parameters: { signedBy: signedBy.map((key) => key.slice(0, LONGEST_SHOWN)), onConflict },
    };
    await door.check(this.caller, asked);
    const verified = await verifyBackup(content, signedBy).then(
      (sound) => ({ sound }),
      (error: unknown) => ({ error }),
    );
    return door.write(this.caller, 'sound' in verified ? withContents(asked, verified.sound) : asked, async () => {
      if (!('sound' in verified)) throw verified.error;
      return new StoreImport(this.parts, content, verified.sound, onConflict).run();
    });
  }

  /** Whatever hands out a value does it under the action for that, so that a denial of it closes this door too. */
  async #permit(record: SecretRecord): Promise<void> {
    const stages = record.stages.map(([stage]) => stage);
    const resource = secretResource(record.name, factsOf(record));
    await this.parts.door.check(this.caller, { operation: 'exportValue', resource, stages });
  }
}

const LONGEST_SHOWN = 64;

/** The event says which backup it was. */
function withContents(asked: Asked, { summary }: VerifiedBackup): Asked {
  const { leftOut: _many, ...contents } = summary;
  return { ...asked, parameters: { ...asked.parameters, ...contents, signedBy: summary.signedBy } };
}
