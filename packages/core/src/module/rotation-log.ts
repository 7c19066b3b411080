import { Logger } from '@nestjs/common';
import type { RotationEvent } from '../rotation/rotation-events.js';

/** Writes rotations to Nest's logger: outcomes at `log`, failures at `warn`, every step at `verbose`. */
export function logRotationEvent(logger: Logger, event: RotationEvent): void {
  const { secretName } = event;
  switch (event.type) {
    case 'promoted':
      logger.log(
        `${secretName}: ${event.versionId} is current${event.previousVersionId === undefined ? '' : `, ${event.previousVersionId} is to be retired`}`,
      );
      return;
    case 'retired':
      logger.log(
        `${secretName}: ${event.versionId} is retired${event.report === undefined ? '' : `, refused: ${event.report.refused}, sessions ended: ${event.report.sessionsEnded}`}`,
      );
      return;
    case 'failed':
      logger.warn(
        `${secretName}: ${event.step ?? 'going on with the rotation'} failed${event.retryAt === undefined ? '' : ` and is tried again at ${new Date(event.retryAt).toISOString()}`}: ${event.message}`,
      );
      return;
    case 'undone':
      logger.warn(`${secretName}: the rotation to ${event.versionId ?? 'a new version'} was undone`);
      return;
    case 'waiting':
      logger.warn(
        `${secretName}: the next rotation waits, since no identity of its ring is free; held by: ${event.holders.join(', ') || 'a retirement under way'}`,
      );
      return;
    case 'suspended':
      logger.error(
        `${secretName}: the schedule stands still after ${event.failures} failed rotations in a row; find out why, then call resumeRotation`,
      );
      return;
    case 'suspected':
      logger.warn(
        `${secretName}: ${event.failures.length} refusals with ${event.versionId} reported; ${event.confirmed ? `confirmed: ${event.message ?? ''}` : 'looking again found nothing wrong with it'}`,
      );
      return;
    case 'rolled-back':
      logger.error(
        `${secretName}: ${event.versionId} is current again, since ${event.failedVersionId} failed: ${event.message}`,
      );
      return;
    case 'cut-off':
      logger.error(
        `${secretName}: ${event.versionId} is retired at its deadline although it was still used by: ${event.holders.join(', ')}`,
      );
      return;
    case 'rehearsed':
      logger.log(`${secretName}: a rehearsal of its rotation went through`);
      return;
    case 'settling':
      logger.verbose(`${secretName}: ${event.versionId} is still held by ${event.holders.join(', ')}`);
      return;
    case 'started':
      logger.verbose(`${secretName}: rotation ${event.rotationId} by ${event.rotator} started (${event.reason})`);
      return;
    case 'step':
      logger.verbose(`${secretName}: ${event.step} ${event.versionId ?? ''}`.trimEnd());
  }
}
