import type { RetiredSummary } from './rotation-state.js';

/** What a rotation came to. For consumers it is over at promotion; retiring the version before it goes on in the background. */
export interface RotationResult {
  readonly secretName: string;
  readonly rotationId: string;
  /** The version that is current now; after a rehearsal the one that was current before. */
  readonly versionId: string;
  readonly previousVersionId: string | undefined;
  /** How the version before was retired, where the caller waited for that. */
  readonly retired?: RetiredSummary;
}
