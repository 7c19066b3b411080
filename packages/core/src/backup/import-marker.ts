import { CorruptRecordError } from '../foundation/errors.js';
import type { StoreDriver } from '../store/store-driver.js';
import { BackupError } from './backup-errors.js';

/** Where a store says which import into it began, and how far it has come: every commit of an import carries it. */
export const IMPORT_KEY = 'import/state';

export interface ImportMarker {
  readonly format: 1;
  /** Of the backup. */
  readonly digest: string;
  readonly startedAt: number;
  /** Secrets of the backup that are dealt with, from its beginning. */
  readonly done: number;
  /** Those of them that were there already and were left alone. */
  readonly skipped: number;
  /** What the secrets so far wanted of master keys that this store does not have. */
  readonly missingKeys: readonly string[];
  /** Missing while the import is under way, or was broken off. */
  readonly finishedAt?: number;
}

export interface FoundMarker {
  readonly marker: ImportMarker | undefined;
  readonly revision: number;
}

/** @throws CorruptRecordError */
export async function findMarker(store: StoreDriver): Promise<FoundMarker> {
  const entry = await store.get(IMPORT_KEY);
  if (entry === undefined) return { marker: undefined, revision: 0 };
  try {
    const marker: ImportMarker = JSON.parse(Buffer.from(entry.value).toString('utf8'));
    if (marker.format === 1 && typeof marker.digest === 'string') return { marker, revision: entry.revision };
  } catch {
    // Falls through to the one error below.
  }
  throw new CorruptRecordError('What the store says of an import', 'it does not parse');
}

export function markerBytes(marker: ImportMarker): Buffer {
  return Buffer.from(JSON.stringify(marker));
}

export function busyImport(): BackupError {
  return new BackupError(
    'IMPORT_BUSY',
    'Another process imports into this store. Let it finish, or stop it and import the same backup again.',
  );
}
