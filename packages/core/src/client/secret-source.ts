import type { Acknowledgement } from '../rotation/acknowledgements.js';

/** The current version of a secret as a source delivers it. `value` has been decoded but not yet checked against a schema. */
export interface SecretSnapshot {
  readonly name: string;
  readonly versionId: string;
  readonly value: unknown;
  /** Grows by one each time `current` moves, backwards moves included: of two snapshots the one with the higher number is the newer. */
  readonly promotion: number;
  /** True when this move put `current` back to an older version. */
  readonly rolledBack: boolean;
  /** After this time (milliseconds since the epoch) the value must not be handed out. */
  readonly expiresAt: number | undefined;
}

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
}
