import { CorruptRecordError } from '../foundation/errors.js';
import type { RotationReason } from './rotation-events.js';
import type { RetireReport, RotationNotes } from './secret-rotator.js';

/** A rotation under way, as the journal has it: written before each effect, so that any process can go on from it. */
export interface ActiveRotation {
  readonly rotationId: string;
  readonly rotator: string;
  readonly reason: RotationReason;
  /** The step that may have begun. */
  readonly step: 'create' | 'apply' | 'verify' | 'undo';
  readonly startedAt: number;
  /** The version made in `create`, once it is stored. */
  readonly versionId?: string;
  readonly notes: RotationNotes;
  /** Why it is being undone. */
  readonly failure?: { readonly step: string; readonly message: string };
}

/** A version that was replaced and must still be retired. */
export interface RetireObligation {
  readonly versionId: string;
  /** The version that replaced it. */
  readonly replacedBy: string;
  /** The promotion that replaced it. */
  readonly promotion: number;
  readonly rotationId: string;
  readonly rotator: string;
  readonly step: 'settle' | 'retire';
  readonly since: number;
  readonly notes: RotationNotes;
}

/** How the latest rotation went. */
export interface RotationSummary {
  readonly rotationId: string;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly outcome: 'promoted' | 'failed';
  readonly versionId?: string;
  /** The step that failed and the redacted message. */
  readonly failure?: { readonly step: string; readonly message: string };
}

export interface RetiredSummary {
  readonly versionId: string;
  readonly at: number;
  readonly report?: RetireReport;
}

/** All the engine keeps about one secret: one record, changed by compare-and-set only. */
export interface RotationState {
  readonly format: 1;
  readonly active?: ActiveRotation;
  readonly obligations: readonly RetireObligation[];
  readonly lastRotation?: RotationSummary;
  readonly lastRetired?: RetiredSummary;
  /** Failed rotations since the last that went through. */
  readonly failures: number;
}

export const NO_ROTATION: RotationState = { format: 1, obligations: [], failures: 0 };

export function parseRotationState(secretName: string, bytes: Uint8Array): RotationState {
  try {
    const state: RotationState = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (state.format === 1 && Array.isArray(state.obligations)) return state;
  } catch {
    // Falls through to the one error below.
  }
  throw new CorruptRecordError(`The rotation journal of ${secretName}`, 'it does not parse', secretName);
}
