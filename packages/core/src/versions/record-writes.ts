import { dueWrites } from '../store/due-entries.js';
import type { StoreCondition, StoreWrite } from '../store/store-driver.js';
import { isLeased, type SecretRecord } from './secret-record.js';
import { recordDueAt } from './version-lifecycle.js';

export const RECORD_PREFIX = 'secret/';
/** One empty entry for each secret with a schedule, so that starting costs what is scheduled and not what is stored. */
export const SCHEDULED_PREFIX = 'scheduled/';
/** One entry for each credential of an instance, so that finding those of the dead costs what is leased. */
export const LEASE_PREFIX = 'lease/';
/** What was counted in a secret that is gone, for one that gets its name later. */
export const GONE_PREFIX = 'gone/';

/** The record of a secret and whatever finds it by something else than its name, in one commit. */
export function recordWrites(
  before: SecretRecord | undefined,
  after: SecretRecord,
  warnings: readonly number[],
): StoreWrite[] {
  const { name, lease } = after;
  const writes: StoreWrite[] = [{ key: RECORD_PREFIX + name, value: Buffer.from(JSON.stringify(after)) }];
  const scheduled = isScheduled(after);
  if (scheduled !== (before !== undefined && isScheduled(before)))
    writes.push({ key: SCHEDULED_PREFIX + name, value: scheduled ? Buffer.alloc(0) : null });
  if (before === undefined && lease !== undefined)
    writes.push({ key: LEASE_PREFIX + name, value: Buffer.from(JSON.stringify(lease)) });
  writes.push(...dueWrites(name, before && recordDueAt(before, warnings), recordDueAt(after, warnings)));
  return writes;
}

/** Takes away all of that. */
export function recordRemovals(record: SecretRecord, warnings: readonly number[]): StoreWrite[] {
  const { name, lease, nextSequence, promotion } = record;
  const counted = Buffer.from(String(Math.max(nextSequence - 1, promotion)));
  return [
    ...[RECORD_PREFIX, SCHEDULED_PREFIX, LEASE_PREFIX].map((prefix) => ({ key: prefix + name, value: null })),
    ...dueWrites(name, recordDueAt(record, warnings), undefined),
    ...(lease === undefined ? [{ key: GONE_PREFIX + name, value: counted }] : []),
  ];
}

/** Each condition once. Two that differ on one key cannot both hold, and stay. */
export function distinct(conditions: readonly StoreCondition[]): StoreCondition[] {
  return [...new Map(conditions.map((condition) => [`${condition.revision} ${condition.key}`, condition])).values()];
}

/** A secret of leases has nothing to rotate itself: its leases have the schedule. One that is deleted does not rotate. */
function isScheduled(record: SecretRecord): boolean {
  return record.rotation?.schedule !== undefined && record.deletion === undefined && !isLeased(record);
}
