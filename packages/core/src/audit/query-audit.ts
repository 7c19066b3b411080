import { parseRecord, type RecordFields } from './audit-chain.js';
import { AuditOptionsError } from './audit-errors.js';
import { type AuditEvent, type AuditOutcome, outcomeOf } from './audit-event.js';
import type { AuditReader } from './audit-reader.js';

/** Which events; all conditions hold at once, and a missing one holds always. */
export interface AuditQuery {
  /** `resourceName`. */
  readonly secret?: string;
  /** `userIdentity.principalId`. */
  readonly principal?: string;
  /** `eventName`: any of these. */
  readonly actions?: readonly string[];
  readonly outcome?: AuditOutcome;
  /** Recorded at or after this, in milliseconds since the Unix epoch. */
  readonly since?: number;
  /** Recorded before this. */
  readonly until?: number;
}

export interface AuditPageQuery extends AuditQuery {
  /** Events a page, 1–1000; 100 by default. */
  readonly limit?: number;
  /** From the page before. */
  readonly cursor?: string;
}

/** An event as it was found. */
export interface FoundEvent {
  readonly sequence: number;
  /** When it was recorded, in milliseconds since the Unix epoch. */
  readonly time: number;
  readonly event: AuditEvent;
  /** How it went in the end: of an event recorded before the act (`recorded: 'before'`) also what a later one said. */
  readonly outcome: AuditOutcome;
}

export interface AuditPage {
  /** Newest first. */
  readonly events: readonly FoundEvent[];
  /** For the next page; missing on the last. */
  readonly cursor?: string;
}

/** A clock that is put back while the log is written puts older times behind newer ones; so much is read beyond `since`. */
const CLOCK_SLACK_MS = 600_000;
/** Operations known to have failed whose beginning was not met yet. More at once would mean that many operations in flight. */
const MOST_FAILED = 4096;

/**
 * A page of events, newest first. Reads backwards from the end, so recent events cost little however long the log is. Checks no MAC: what is at stake,
 * verify (`verifyAudit`).
 * @throws AuditOptionsError for a limit or cursor out of range; what reading threw
 */
export async function queryAudit(log: AuditReader, query: AuditPageQuery = {}): Promise<AuditPage> {
  const { limit = 100, cursor } = query;
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000)
    throw new AuditOptionsError('queryAudit takes a limit of 1 to 1000 events.');
  const state = cursor === undefined ? { before: undefined, failed: new Set<string>() } : parseCursor(cursor);
  const events: FoundEvent[] = [];
  for await (const found of scan(log, query, state)) {
    events.push(found);
    if (events.length === limit) return { events, cursor: printCursor(found.sequence, state.failed) };
  }
  return { events };
}

/** All events that match, newest first, without paging. */
export function auditEvents(log: AuditReader, query: AuditQuery = {}): AsyncIterable<FoundEvent> {
  return scan(log, query, { before: undefined, failed: new Set() });
}

/** One reader of a secret. */
export interface SecretReader {
  readonly principalId: string;
  readonly instanceIds: readonly string[];
  /** Reads that got the value. */
  readonly reads: number;
  readonly denied: number;
  /** In milliseconds since the Unix epoch. */
  readonly first: number;
  readonly last: number;
}

/**
 * Who read a secret since a time: one entry a principal, the latest reader first.
 * `actions` are the events that hand out a value: `GetSecretValue` and `DeliverSecretVersion` by default.
 */
export async function whoRead(
  log: AuditReader,
  secret: string,
  since: number,
  actions: readonly string[] = ['GetSecretValue', 'DeliverSecretVersion'],
): Promise<SecretReader[]> {
  const readers = new Map<string, SecretReader & { readonly instances: Set<string> }>();
  for await (const { event, time, outcome } of auditEvents(log, { secret, actions, since })) {
    const { principalId, instanceId } = event.userIdentity;
    const known = readers.get(principalId);
    const instances = known?.instances ?? new Set<string>();
    if (instanceId !== undefined) instances.add(instanceId);
    readers.set(principalId, {
      principalId,
      instances,
      instanceIds: [],
      reads: (known?.reads ?? 0) + (outcome === 'success' ? 1 : 0),
      denied: (known?.denied ?? 0) + (outcome === 'denied' ? 1 : 0),
      first: time,
      last: known?.last ?? time,
    });
  }
  return [...readers.values()].map(({ instances, ...reader }) => ({ ...reader, instanceIds: [...instances] }));
}

interface ScanState {
  readonly before: number | undefined;
  readonly failed: Set<string>;
}

async function* scan(
  log: AuditReader,
  query: AuditQuery,
  { before = Infinity, failed }: ScanState,
): AsyncIterable<FoundEvent> {
  const { since = Number.NEGATIVE_INFINITY } = query;
  const needles = needlesOf(query);
  for await (const lines of log.linesBackwards(before)) {
    for (const { bytes } of lines) {
      const record = parseRecord(bytes);
      if (record === undefined || record.sequence >= before) continue;
      if (record.time < since - CLOCK_SLACK_MS) return;
      // Canonical JSON has one way to write a member, so most lines need not be parsed.
      const takesBack = record.event.includes('"failureOf":') || record.event.includes('"refusedEventIds":');
      if (!takesBack && !needles.every((needle) => record.event.includes(needle))) continue;
      const event = parseEvent(record);
      if (event === undefined) continue;
      if (takesBack) noteFailures(event, failed);
      const outcome = outcomeIn(event, failed);
      if (matches(query, event, record.time, outcome))
        yield { sequence: record.sequence, time: record.time, event, outcome };
    }
  }
}

function needlesOf({ secret, principal }: AuditQuery): string[] {
  const needles: string[] = [];
  if (secret !== undefined) needles.push(`"resourceName":${JSON.stringify(secret)}`);
  if (principal !== undefined) needles.push(`"principalId":${JSON.stringify(principal)}`);
  return needles;
}

function parseEvent({ event }: RecordFields): AuditEvent | undefined {
  try {
    return JSON.parse(event.toString('utf8'));
  } catch {
    // Not what we wrote; verifyAudit says more.
    return undefined;
  }
}

function noteFailures({ additionalEventData = {} }: AuditEvent, failed: Set<string>): void {
  const { failureOf, refusedEventIds } = additionalEventData;
  const ids = [failureOf, ...(Array.isArray(refusedEventIds) ? refusedEventIds : [])];
  for (const id of ids) if (typeof id === 'string' && failed.size < MOST_FAILED) failed.add(id);
}

function outcomeIn(event: AuditEvent, failed: Set<string>): AuditOutcome {
  const outcome = outcomeOf(event);
  // Deleted as it is met: an id comes once.
  return failed.delete(event.eventId) && outcome === 'success' ? 'failure' : outcome;
}

function matches(query: AuditQuery, event: AuditEvent, time: number, outcome: AuditOutcome): boolean {
  const { secret, principal, actions, since, until } = query;
  if (secret !== undefined && event.resourceName !== secret) return false;
  if (principal !== undefined && event.userIdentity.principalId !== principal) return false;
  if (actions !== undefined && !actions.includes(event.eventName)) return false;
  if (query.outcome !== undefined && outcome !== query.outcome) return false;
  return time >= (since ?? Number.NEGATIVE_INFINITY) && time < (until ?? Number.POSITIVE_INFINITY);
}

function printCursor(before: number, failed: ReadonlySet<string>): string {
  return Buffer.from(JSON.stringify([before, ...failed])).toString('base64url');
}

function parseCursor(cursor: string): ScanState {
  try {
    const [before, ...failed]: unknown[] = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (Number.isSafeInteger(before)) return { before: Number(before), failed: new Set(failed.map(String)) };
  } catch {
    // Said below.
  }
  throw new AuditOptionsError('This is not the cursor of a page of queryAudit.');
}
