import { CorruptRecordError } from '../foundation/errors.js';
import type { RotationReason, RotationStep } from './rotation-events.js';
import type { RetireReport, RotationNotes } from './secret-rotator.js';

/** When a step began, in milliseconds since the epoch. */
export interface StepTime {
  readonly step: RotationStep;
  readonly at: number;
}

/** A rotation under way, as the journal has it: written before each effect, so that any process can go on from it. */
export interface ActiveRotation {
  readonly rotationId: string;
  readonly rotator: string;
  readonly reason: RotationReason;
  /** The step that may have begun. */
  readonly step: 'create' | 'apply' | 'verify' | 'undo';
  readonly startedAt: number;
  /** The steps so far. */
  readonly steps?: readonly StepTime[];
  /** The version made in `create`, once it is stored. */
  readonly versionId?: string;
  readonly notes: RotationNotes;
  /** Why it is being undone, or put back. */
  readonly failure?: StepFailure;
  /** Of an emergency: when what this rotation replaces is retired at the latest. */
  readonly deadline?: number;
  /** Of a rollback: the version that failed. `versionId` is the one that is put back. */
  readonly failedVersionId?: string;
  /** Of a rollback: see `RetireObligation.failuresBefore`. */
  readonly failuresBefore?: number;
}

export interface StepFailure {
  readonly step: string;
  /** Redacted. */
  readonly message: string;
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
  /** Why it was replaced, and by which steps. */
  readonly reason?: RotationReason;
  readonly steps?: readonly StepTime[];
  readonly notes: RotationNotes;
  /** It is not retired before this time, so that what consumers report can still put it back. */
  readonly notBefore?: number;
  /** Rotations in a row that had failed before the one that replaced it: counted on when that is rolled back, so that rollbacks add up too. */
  readonly failuresBefore?: number;
  /** From this time on it is retired whoever still holds it. */
  readonly deadline?: number;
  /** Who had moved on when it was found to be held by nobody else, and who was cut off. */
  readonly settled?: SettleReport;
}

/** How consumers let go of a version. */
export interface SettleReport {
  readonly at: number;
  /** The ids of the instances that had acknowledged the new version. */
  readonly acknowledged: readonly string[];
  /** Who still used the old version at the deadline of an emergency. */
  readonly cutOff: readonly string[];
}

/** How the latest rotation went. */
export interface RotationSummary {
  readonly rotationId: string;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly outcome: 'promoted' | 'failed' | 'rolled-back' | 'rehearsed';
  readonly reason?: RotationReason;
  /** What became current. */
  readonly versionId?: string;
  readonly previousVersionId?: string;
  readonly failure?: StepFailure;
}

export interface RetiredSummary {
  readonly versionId: string;
  readonly at: number;
  readonly report?: RetireReport;
  readonly settled?: SettleReport;
}

/** The right to rotate one secret: who has it, and the number that every commit in its name carries. */
export interface RotationLease {
  /** An instance. The lease is good as long as that one lives. */
  readonly holder: string;
  /** Fencing token: grows with each lease of this secret. */
  readonly token: number;
  /** The instance that would like to have it; the holder lets go between two pieces of work. */
  readonly wantedBy?: string;
}

/** All the engine keeps about one secret: one record, changed by compare-and-set only. */
export interface RotationState {
  readonly format: 1;
  readonly active?: ActiveRotation;
  readonly obligations: readonly RetireObligation[];
  readonly lease?: RotationLease;
  /** The token of the latest lease. */
  readonly fence?: number;
  readonly lastRotation?: RotationSummary;
  readonly lastRetired?: RetiredSummary;
  readonly lastRehearsal?: RotationSummary;
  /** Failed rotations since the last that went through. */
  readonly failures: number;
}

/** Whether anything is under way. */
export function isUnfinished(state: RotationState): boolean {
  return state.active !== undefined || state.obligations.length > 0;
}

/** A rotation that enters a step. */
export function atStep(active: ActiveRotation, step: ActiveRotation['step'] | 'promote', at: number): ActiveRotation {
  const steps = [...(active.steps ?? []), { step, at }];
  // Promotion is a commit of its own, after which there is no active rotation.
  return step === 'promote' ? { ...active, steps } : { ...active, step, steps };
}

/** The state after a rotation was given up; undefined when it is not under way. */
export function failedRotation(
  state: RotationState,
  rotationId: string,
  failure: StepFailure,
  endedAt: number,
): RotationState | undefined {
  const { active, ...rest } = state;
  if (active?.rotationId !== rotationId) return undefined;
  const { reason, startedAt } = active;
  const summary = { rotationId, reason, startedAt, endedAt, outcome: 'failed' as const, failure };
  if (reason === 'rehearsal') return { ...rest, lastRehearsal: summary };
  return { ...rest, failures: state.failures + 1, lastRotation: summary };
}

/** The state after a rehearsal that went through; undefined when it is not under way. */
export function rehearsedRotation(
  state: RotationState,
  rotationId: string,
  endedAt: number,
): RotationState | undefined {
  const { active, ...rest } = state;
  if (active?.rotationId !== rotationId) return undefined;
  const { reason, startedAt } = active;
  return { ...rest, lastRehearsal: { rotationId, reason, startedAt, endedAt, outcome: 'rehearsed' } };
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
