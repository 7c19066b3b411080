import type { Logger } from '@nestjs/common';
import type { IntegrityEvent } from '../integrity/integrity-findings.js';

/** Writes what is found in the store to Nest's logger: findings at `error`, what was put right at `warn`. */
export function logIntegrityEvent(logger: Logger, event: IntegrityEvent): void {
  if (event.type === 'found') {
    const { kind, message } = event.finding;
    logger.error(`The store was tampered with (${kind}): ${message} Find out who writes to its database.`);
  } else if (event.type === 'repaired') {
    logger.warn(`${event.key} was made anew from what proves it`);
  } else {
    const what = event.secretName ?? 'all of the store';
    logger.warn(`${what}: what stands in the store was accepted, ${event.reason}`);
  }
}
