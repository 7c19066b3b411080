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
  | (RotationEventBase & { readonly type: 'undone'; readonly versionId: string | undefined });

/** Why a rotation began. */
export type RotationReason = 'requested' | 'schedule' | 'first-version';
