import type { SecretSnapshot } from '../manager/secret-reader.js';
import type { Acknowledgement } from '../fleet/acknowledgements.js';
import type { CredentialFailure } from '../fleet/failure-reports.js';

export type { SecretSnapshot } from '../manager/secret-reader.js';

/**
 * Where handles read from: our own manager, or a remote one. Client and manager meet here only.
 *
 * Errors: `SecretNotFoundError` when there is no such secret; anything else counts as an outage, in which the last good value serves on.
 */
export interface SecretSource {
  readonly name: string;
  fetch(secretName: string): Promise<SecretSnapshot>;
  /** Every version that may open the target now, best first: current, pending, previous. */
  candidates(secretName: string): Promise<readonly SecretSnapshot[]>;
  /** "Look again": for one secret, or for all when the name is missing. The function returned ends the watch. */
  watch(onHint: (secretName?: string) => void): () => void;
  /** Told what this instance runs on, each time it changes. */
  acknowledge?(acknowledgement: Acknowledgement): void;
  /** Told when the target refused a version for what it is; see `SecretLink.report`. */
  report?(secretName: string, failure: CredentialFailure): void;
  /** How often this process has found that it was paused for so long that others may have acted in its place. Looks at the clock each time. */
  pauses?(): number;
  /** Resolves once this process is back after a pause, or cannot be for now. */
  awake?(): Promise<void>;
}
