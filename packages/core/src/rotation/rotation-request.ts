import type { RotationReason } from './rotation-events.js';

/** What is asked of the engine. */
export interface RotationRequest {
  readonly reason: RotationReason;
  /** Of an emergency: every version that was replaced is retired at this time at the latest, in milliseconds since the epoch. */
  readonly deadline?: number;
  /** Of a schedule: the rotation after which this one is due, undefined for the first. Another one since then means that it is not due any more. */
  readonly after?: string | undefined;
  /** The id of a rotation that the journal had open: it is gone on with, and when it has ended meanwhile nothing else is begun. */
  readonly goesOnWith?: string;
}
