import { type AuditEventInput, errorFields } from './audit-event.js';
import type { AuditLog } from './audit-log.js';

/** What of an `AuditLog` operations need. */
export type AuditRecorder = Pick<AuditLog, 'record' | 'nextEventId'>;

/**
 * An operation that hands something out: does the work, records how it went, and only then gives the result away. One event, whatever happened. When the event
 * cannot be recorded the result is withheld. `more` adds to the event what only the result tells, such as the version read, and returns null for a result
 * that is no event; a failure for which `isNoFailure` holds is none either.
 * @throws AuditUnavailableError; otherwise what the work threw
 */
export async function auditedRead<T>(
  log: AuditRecorder,
  event: AuditEventInput,
  work: () => Promise<T>,
  more?: (result: T) => Partial<AuditEventInput> | null,
  isNoFailure?: (error: unknown) => boolean,
): Promise<T> {
  let result: T;
  try {
    result = await work();
  } catch (error) {
    if (isNoFailure?.(error) !== true) await log.record({ ...event, ...errorFields(error) });
    throw error;
  }
  const added = more?.(result);
  if (added !== null) await log.record(added === undefined ? event : { ...event, ...added });
  return result;
}

/**
 * An operation that changes something: records it first, since afterwards would be too late to refuse, and then does the work. One event when it goes well. When
 * it does not, a second event says so, and which one it takes back (`additionalEventData.failureOf`). Should that second event not be taken, the first
 * stands, and the error of the work is still the one thrown: a log that says "began" of what did not come about errs on the safe side.
 * @throws AuditUnavailableError before the work began; otherwise what the work threw
 */
export async function auditedWrite<T>(log: AuditRecorder, event: AuditEventInput, work: () => Promise<T>): Promise<T> {
  const eventId = event.eventId ?? log.nextEventId();
  await log.record({ ...event, eventId, additionalEventData: { ...event.additionalEventData, recorded: 'before' } });
  try {
    return await work();
  } catch (error) {
    const failure = { ...event, eventId: undefined, eventTime: undefined, ...errorFields(error) };
    try {
      await log.record({ ...failure, additionalEventData: { ...event.additionalEventData, failureOf: eventId } });
    } catch {
      // The failure of the work is what the caller has to know.
    }
    throw error;
  }
}
