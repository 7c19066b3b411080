import type { CredentialFailure } from '../fleet/failure-reports.js';
import { isSecretsError } from '../foundation/errors.js';
import type { RotationReason } from './rotation-events.js';
import type { SettleReport, StepFailure, StepTime } from './rotation-state.js';
import type { RetireReport } from './secret-rotator.js';

/** What the engine does for a rotator; the names are those of the table of operations. */
export type StepOperation =
  | 'createPendingVersion'
  | 'applyPendingVersion'
  | 'verifyPendingVersion'
  | 'promoteVersion'
  | 'settleVersion'
  | 'retireVersion'
  | 'undoRotation'
  | 'rollBackRotation'
  | 'renewLease';

/** One step, before it is done. */
export interface StepAsked {
  readonly operation: StepOperation;
  readonly secretName: string;
  readonly rotator: string;
  readonly rotationId: string;
  /** Missing where the step is about to make it. */
  readonly versionId?: string;
  readonly reason?: RotationReason;
  /** Of a settled version: who had moved on, and who was cut off. */
  readonly settled?: SettleReport;
}

/** All there is to say of a rotation that has come to its end, or of the retirement that ended it. */
export interface RotationReport {
  readonly secretName: string;
  readonly rotationId: string;
  readonly rotator: string;
  readonly reason?: RotationReason;
  /** `promoted`: there was no version before. `revoked`: the credential of an instance that has left. */
  readonly outcome: 'retired' | 'promoted' | 'failed' | 'rolled-back' | 'rehearsed' | 'revoked';
  /** What is current after it. */
  readonly versionId?: string;
  readonly previousVersionId?: string;
  /** When each step began, in order; one that was done again stands there again. */
  readonly steps: readonly StepTime[];
  readonly failure?: StepFailure;
  readonly settled?: SettleReport;
  /** What `retire` proved of the old version. */
  readonly retired?: RetireReport;
  /** What consumers were refused with the versions of this rotation. */
  readonly refusals: readonly CredentialFailure[];
}

/** What stands before each step of a rotation, and takes the report of its end. */
export interface StepDoor {
  /** Throws `ACCESS_DENIED` for a step that the rotator may not do, before anything is read for it. */
  check(step: StepAsked): Promise<void>;
  /** Does the work once the step is allowed and recorded. Throws `ACCESS_DENIED` or `AUDIT_UNAVAILABLE` without having begun. */
  step<T>(step: StepAsked, work: () => Promise<T>): Promise<T>;
  /** Resolves once the report is kept; the rotation ends only then. Who keeps none does not ask for it. */
  conclude(report: () => Promise<RotationReport>): Promise<void>;
}

/** Stands open. */
export const OPEN_STEP_DOOR: StepDoor = {
  check: async () => undefined,
  step: (_step, work) => work(),
  conclude: async () => undefined,
};

/** Whether a step did not begin since nobody could record it: it has not failed, and is tried again. */
export function isUnrecorded(error: unknown): boolean {
  return isSecretsError(error, 'AUDIT_UNAVAILABLE');
}
