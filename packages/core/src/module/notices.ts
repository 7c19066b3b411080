import type { PolicyReport } from '../access/policy-store.js';
import type { AuditEventInput } from '../audit/audit-event.js';
import { isSecretsError } from '../foundation/errors.js';
import type { IntegrityEvent } from '../integrity/integrity-findings.js';
import type { MoveEvent } from '../store/move-events.js';

/** Something an operator should know, for the application's logger. */
export interface Notice {
  readonly level: 'log' | 'warn' | 'error';
  readonly message: string;
}

/** What to tell the operator of the policies, and what the audit log. */
export function noticeOf(
  report: PolicyReport,
  ownId: string,
): { readonly notice: Notice; readonly event: AuditEventInput } {
  if (report.type === 'policies-off') {
    const message = `Policies are off: ${ownId}, this application, may do everything and nobody else anything. The first policy turns them on.`;
    return { notice: { level: 'log', message }, event: eventOf('PoliciesOff', {}) };
  }
  if (report.type === 'policies-changed') {
    const message = `The policies of change ${report.sequence} govern from now on.`;
    return { notice: { level: 'log', message }, event: eventOf('PoliciesChanged', { sequence: report.sequence }) };
  }
  if (report.type === 'policies-corrupt') {
    const { policies } = report;
    const message = `These policies cannot be trusted, and what they govern is denied until they are set anew: ${policies.join(', ')}`;
    return { notice: { level: 'error', message }, event: eventOf('PoliciesCorrupt', { policies }) };
  }
  const why = isSecretsError(report.error) ? report.error.message : 'the store failed';
  const message = `The policies could not be read, and the last ones known go on: ${why}`;
  return { notice: { level: 'warn', message }, event: eventOf('PoliciesUnreadable', {}) };
}

/** What the audit log is told of the integrity of the store. */
export function integrityEventOf(event: IntegrityEvent): AuditEventInput {
  const about = { eventRW: 'Write', eventType: 'ServiceEvent', resourceType: 'Store' } as const;
  if (event.type === 'found') {
    const { kind, key, secretName, message } = event.finding;
    const data = { kind, key, ...(secretName === undefined ? {} : { secretName }), message };
    return { ...about, eventName: 'StoreTampered', additionalEventData: data };
  }
  if (event.type === 'repaired')
    return { ...about, eventName: 'StoreRepaired', additionalEventData: { key: event.key } };
  const { secretName, fromSequence, toSequence, reason } = event;
  const data = { ...(secretName === undefined ? {} : { secretName }), fromSequence, toSequence, reason };
  return { ...about, eventName: 'RestoreAccepted', additionalEventData: data };
}

/** What the audit log is told of a move between stores; of its progress nothing. */
export function moveEventOf(event: MoveEvent): AuditEventInput | undefined {
  const about = { eventRW: 'Write', eventType: 'ServiceEvent', resourceType: 'Store' } as const;
  const { id } = event;
  if (event.type === 'copying') return { ...about, eventName: 'StoreMoveBegun', additionalEventData: { id } };
  if (event.type === 'given-up') return { ...about, eventName: 'StoreMoveGivenUp', additionalEventData: { id } };
  if (event.type === 'failed')
    return { ...about, eventName: 'StoreMoveFailed', additionalEventData: { id, code: event.code } };
  if (event.type !== 'moved') return undefined;
  const { entries, digest, frozenMs } = event;
  const data = { id, entries, digest, frozenMs: Math.round(frozenMs) };
  return { ...about, eventName: 'StoreMoved', additionalEventData: data };
}

function eventOf(eventName: string, additionalEventData: AuditEventInput['additionalEventData']): AuditEventInput {
  return { eventName, eventRW: 'Write', eventType: 'ServiceEvent', resourceType: 'Policy', additionalEventData };
}
