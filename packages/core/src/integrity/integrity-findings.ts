import { CorruptRecordError, SecretsError } from '../foundation/errors.js';
import { secretNameOf } from './entry-kinds.js';

/** What was found to be wrong with what a store holds. */
export type IntegrityFindingKind =
  /** It was not written under this key into this store, or was changed since. */
  | 'record-changed'
  /** It is unsealed, or sealed in a way that is unknown or too weak. */
  | 'record-downgraded'
  /** It was written here, but has been replaced since: somebody put an older one back. */
  | 'record-rolled-back'
  /** It is gone, and nobody who holds the key removed it. */
  | 'record-hidden'
  /** It was written here, but removed since: somebody put it back. */
  | 'record-resurrected'
  /** A part of the manifest, or of what is needed to open the store. It is made anew where what is left proves what it was. */
  | 'manifest-damaged'
  /** The whole store is an older one than was seen before. */
  | 'store-rolled-back'
  /** The whole store has the age that was seen before, but other contents. */
  | 'store-forked';

export interface IntegrityFinding {
  readonly kind: IntegrityFindingKind;
  /** The key in the store. */
  readonly key: string;
  /** The secret that it concerns; undefined when it concerns none, or all. */
  readonly secretName?: string;
  /** What it means, in a sentence. */
  readonly message: string;
}

/** What happens to the integrity of a store, for the audit log, for logs and for health. Times are milliseconds since the epoch. */
export type IntegrityEvent =
  /** Told once for each, until it changes. */
  | { readonly type: 'found'; readonly at: number; readonly finding: IntegrityFinding }
  /** A part of the manifest was damaged, and could be made anew from what is left, with proof. */
  | { readonly type: 'repaired'; readonly at: number; readonly key: string }
  /** What stands in the store was declared to be right, by `acceptRestore` or by `adopt`. */
  | {
      readonly type: 'restore-accepted';
      readonly at: number;
      /** The secret, or undefined for all of the store. */
      readonly secretName?: string;
      readonly fromSequence: number;
      readonly toSequence: number;
      readonly reason: string;
    };

const MEANINGS: Record<IntegrityFindingKind, string> = {
  'record-changed':
    'was changed, moved here from another place, or comes from another store; it was not written under this key',
  'record-downgraded': 'is not sealed, or sealed in a way that is not allowed',
  'record-rolled-back': 'was written here but is not the latest: somebody put an older one back',
  'record-hidden': 'is gone, and nobody who holds the key removed it',
  'record-resurrected': 'was removed, and somebody put it back',
  'manifest-damaged': 'was changed by somebody who does not hold the key',
  'store-rolled-back': 'is an older state of the whole store than was seen before',
  'store-forked': 'has the age of a state that was seen before, but other contents',
};

export function findingAt(kind: IntegrityFindingKind, key: string): IntegrityFinding {
  const secretName = secretNameOf(key);
  return {
    kind,
    key,
    ...(secretName === undefined ? {} : { secretName }),
    message: `${key} ${MEANINGS[kind]}.`,
  };
}

/** `RECORD_CORRUPT`: an entry of the store is not what was written there last. Others are not affected; `finding` says what is known. */
export class TamperedRecordError extends CorruptRecordError {
  readonly finding: IntegrityFinding;

  constructor(finding: IntegrityFinding) {
    const restore =
      finding.secretName === undefined
        ? 'acceptRestore()'
        : `acceptRestore({ secretName: '${finding.secretName}', reason })`;
    super(
      finding.key,
      `it ${MEANINGS[finding.kind]} (${finding.kind}). Find out who writes to the database; then restore the record from a backup and call ${restore}, or delete the secret.`,
      finding.secretName,
    );
    this.finding = finding;
  }
}

/**
 * `STORE_ROLLED_BACK`, `STORE_FORKED`: the whole store is not the one that was seen before. `MANIFEST_LOST`: what proves its contents is gone. `STORE_NOT_SEALED`: it has
 * records and no manifest. Nothing is read from it or written to it until that is put right.
 */
export class StoreIntegrityError extends SecretsError {
  declare readonly code:
    'STORE_ROLLED_BACK' | 'STORE_FORKED' | 'MANIFEST_LOST' | 'STORE_NOT_SEALED' | 'INTEGRITY_OPTIONS_INVALID';
}
