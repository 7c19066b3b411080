import type { CredentialFailure } from '../fleet/failure-reports.js';
import type { RetireReport } from './secret-rotator.js';

/** The steps of a rotation, in order, and `undo` for one that failed before promotion. */
export type RotationStep = 'create' | 'apply' | 'verify' | 'promote' | 'settle' | 'retire' | 'undo';

interface RotationEventBase {
  readonly secretName: string;
  readonly rotationId: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** What happens in rotations, for operators and dashboards. Never carries a value; messages of errors are redacted. */
export type RotationEvent =
  | (RotationEventBase & { readonly type: 'started'; readonly rotator: string; readonly reason: RotationReason })
  /** Every identity still belongs to a version in use: the rotation begins when one of `holders` lets go. */
  | (RotationEventBase & { readonly type: 'waiting'; readonly holders: readonly string[] })
  | (RotationEventBase & { readonly type: 'step'; readonly step: RotationStep; readonly versionId: string | undefined })
  | (RotationEventBase & {
      readonly type: 'promoted';
      readonly versionId: string;
      readonly previousVersionId: string | undefined;
    })
  /** The replaced version is still held; told again whenever others hold it than before. */
  | (RotationEventBase & { readonly type: 'settling'; readonly versionId: string; readonly holders: readonly string[] })
  | (RotationEventBase & {
      readonly type: 'retired';
      readonly versionId: string;
      readonly report: RetireReport | undefined;
    })
  | (RotationEventBase & {
      readonly type: 'failed';
      /** Undefined, and `rotationId` empty, when the rotation could not be gone on with at all, as when the store does not answer. */
      readonly step: RotationStep | undefined;
      readonly message: string;
      readonly retryAt: number | undefined;
    })
  /** A failed rotation was taken back; the secret is what it was before. */
  | (RotationEventBase & { readonly type: 'undone'; readonly versionId: string | undefined })
  /** Consumers were refused with the current version. `confirmed`: looking again found the same, and the version before is put back. */
  | (RotationEventBase & {
      readonly type: 'suspected';
      readonly versionId: string;
      readonly failures: readonly CredentialFailure[];
      readonly confirmed: boolean;
      readonly message: string | undefined;
    })
  /** The version before is current again; the one that failed is to be retired. */
  | (RotationEventBase & {
      readonly type: 'rolled-back';
      readonly versionId: string;
      readonly failedVersionId: string;
      readonly message: string;
    })
  /** The deadline of an emergency passed: the version is retired although these still used it. */
  | (RotationEventBase & { readonly type: 'cut-off'; readonly versionId: string; readonly holders: readonly string[] })
  /** A rehearsal went through; nothing of it is left. */
  | (RotationEventBase & { readonly type: 'rehearsed' })
  /** So many rotations in a row have failed that the schedule stands still until somebody looks: see `resumeRotation`. */
  | (RotationEventBase & { readonly type: 'suspended'; readonly failures: number });

/** Why a rotation began. */
export type RotationReason = 'requested' | 'schedule' | 'first-version' | 'emergency' | 'rehearsal' | 'rollback';

/** Whether a rotation for this reason puts a new value in the place of the current one, so that whoever wants that can join it. */
export function isReplacing(reason: RotationReason): boolean {
  return reason !== 'rehearsal' && reason !== 'rollback';
}
