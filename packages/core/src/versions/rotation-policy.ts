import { CronTime } from 'cron';
import { RotationPolicyError } from '../foundation/errors.js';

/** A length of time: milliseconds, or a number with its unit, such as `'500ms'`, `'30s'`, `'15m'`, `'12h'`, `'30d'`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

/** Rotate at a steady interval (500 ms to 365 days), or whenever a cron expression says, in a time zone (UTC unless stated). */
export type RotationSchedule = { readonly every: Duration } | { readonly cron: string; readonly timeZone?: string };

/** How and when a secret rotates. Kept with the secret in the store. */
export interface RotationPolicy {
  /** The rotator's name, such as `postgres/alternating-users`, or what `@Rotator()` says. */
  readonly rotator: string;
  /** Without one, the secret rotates only when `rotateSecret` is called. */
  readonly schedule?: RotationSchedule;
  /** False stops the schedule; `rotateSecret` still works. True by default. */
  readonly enabled?: boolean;
}

export const SHORTEST_INTERVAL_MS = 500;
const LONGEST_INTERVAL_MS = 365 * 86_400_000;
const UNITS = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** Milliseconds of a duration; undefined for what is none. */
export function parseDuration(duration: unknown): number | undefined {
  if (typeof duration === 'number') return Number.isFinite(duration) && duration >= 0 ? duration : undefined;
  const match = typeof duration === 'string' ? /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$/.exec(duration) : null;
  const unit = UNITS.get(match?.[2] ?? '');
  return match === null || unit === undefined ? undefined : Number(match[1]) * unit;
}

/**
 * Passes a sound policy through.
 * @throws RotationPolicyError
 */
export function checkRotationPolicy(secretName: string, policy: RotationPolicy): RotationPolicy {
  const fail = (message: string): never => {
    throw new RotationPolicyError(secretName, `The rotation policy of ${secretName} ${message}`);
  };
  if (typeof policy !== 'object' || policy === null) return fail('is not an object.');
  if (typeof policy.rotator !== 'string' || !/^[\w./@:-]{1,128}$/.test(policy.rotator))
    return fail('names no rotator.');
  const { schedule } = policy;
  if (schedule === undefined) return policy;
  if (typeof schedule === 'object' && schedule !== null && 'every' in schedule) {
    const every = parseDuration(schedule.every);
    if (every === undefined || every < SHORTEST_INTERVAL_MS || every > LONGEST_INTERVAL_MS) {
      return fail(
        `has the interval ${JSON.stringify(schedule.every)}: give 500 ms to 365 days, as a number of milliseconds or like '30s', '12h', '30d'.`,
      );
    }
    return policy;
  }
  if (typeof schedule !== 'object' || schedule === null || typeof schedule.cron !== 'string')
    return fail('has a schedule with neither `every` nor `cron`.');
  try {
    new CronTime(schedule.cron, schedule.timeZone ?? 'UTC');
  } catch {
    return fail(
      `has a cron expression or time zone that cannot be read: ${JSON.stringify(schedule.cron)}, ${schedule.timeZone ?? 'UTC'}.`,
    );
  }
  return policy;
}

/**
 * When a secret is due after its last rotation (milliseconds since the epoch); undefined when it has no active schedule. A time in the past
 * means that one or more were missed: they are caught up by one rotation.
 */
export function nextRotationAt(policy: RotationPolicy, lastRotationAt: number): number | undefined {
  if (policy.schedule === undefined || policy.enabled === false) return undefined;
  if ('every' in policy.schedule) return lastRotationAt + (parseDuration(policy.schedule.every) ?? LONGEST_INTERVAL_MS);
  const zone = policy.schedule.timeZone ?? 'UTC';
  return new CronTime(policy.schedule.cron, zone).getNextDateFrom(new Date(lastRotationAt), zone).toMillis();
}
