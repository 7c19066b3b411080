import { DeletionRequestError } from '../foundation/errors.js';
import { type Duration, parseDuration } from '../versions/rotation-policy.js';

export interface DeleteSecretOptions {
  /** How long it can be restored, from 7 to 30 days; 30 days by default. */
  readonly recoveryWindow?: Duration;
  /** Removes it at once, for good. */
  readonly force?: boolean;
}

export interface DestroyVersionOptions {
  /** How long it can be kept after all, by giving it a stage, up to 30 days; none by default: it is destroyed at once. */
  readonly after?: Duration;
}

const DAY_MS = 86_400_000;
const [SHORTEST_MS, LONGEST_MS] = [7 * DAY_MS, 30 * DAY_MS];

/** How long a deleted secret can be restored, in milliseconds; 0 by force. @throws DeletionRequestError */
export function recoveryWindowMs({ recoveryWindow, force = false }: DeleteSecretOptions): number {
  if (force && recoveryWindow !== undefined)
    throw new DeletionRequestError('A secret is deleted by force or with a recovery window, not both.');
  if (force) return 0;
  const windowMs = parseDuration(recoveryWindow ?? LONGEST_MS);
  if (windowMs === undefined || windowMs < SHORTEST_MS || windowMs > LONGEST_MS)
    throw new DeletionRequestError(
      "The recovery window of a secret is 7 to 30 days, such as '7d'; `force` deletes it at once.",
    );
  return windowMs;
}

/** @throws DeletionRequestError */
export function destructionDelayMs({ after = 0 }: DestroyVersionOptions): number {
  const delayMs = parseDuration(after);
  if (delayMs === undefined || delayMs > LONGEST_MS)
    throw new DeletionRequestError("A version is destroyed up to 30 days later: give milliseconds, or like '7d'.");
  return delayMs;
}
