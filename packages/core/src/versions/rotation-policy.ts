import { createHash } from 'node:crypto';
import { CronTime } from 'cron';
import { RotationPolicyError } from '../foundation/errors.js';
import { openAt, windowFault, type RotationWindow } from './rotation-window.js';

export type { RotationWindow, WeekDay } from './rotation-window.js';

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
  /** False stops the schedule; `rotateSecret` still works. True by default. `pauseRotation` and `resumeRotation` set it. */
  readonly enabled?: boolean;
  /**
   * For rotators of the strategy `lease`: each instance gets a credential of its own, good for this long and renewed in time, from 10 s to 365 days. The
   * secret itself has no value then.
   */
  readonly lease?: Duration;
  /** Scheduled rotations begin inside this window only: one that falls due outside waits until it opens. */
  readonly window?: RotationWindow;
  /** Each scheduled rotation begins up to this much later than it is due, so that many secrets do not rotate at the same moment; none by default. */
  readonly jitter?: Duration;
  /**
   * The replaced version stays valid at least this long after a promotion, whoever has let go of it, so that what consumers report can still put
   * it back. By default a tenth of the time to the next rotation and at most a minute after a scheduled rotation, nothing after one that was asked for.
   */
  readonly probation?: Duration;
  /** The schedule stands still after so many rotations in a row that failed or were rolled back, until one that is asked for succeeds or `resumeRotation` is called; 10 by default, which take some 90 minutes. */
  readonly maxFailures?: number;
}

export const SHORTEST_INTERVAL_MS = 500;
const LONGEST_INTERVAL_MS = 365 * 86_400_000;
const SHORTEST_LEASE_MS = 10_000;
const LONGEST_PROBATION_MS = 60_000;
const DEFAULT_MAX_FAILURES = 10;
const FIRST_BACK_OFF_MS = 5_000;
const LONGEST_BACK_OFF_MS = 3_600_000;
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
  checkExtent(policy, fail);
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

/** What is not about when: window, jitter, probation, failures. */
function checkExtent(policy: RotationPolicy, fail: (message: string) => never): void {
  const { window, jitter, probation, maxFailures, lease } = policy;
  const leaseMs = lease === undefined ? SHORTEST_LEASE_MS : parseDuration(lease);
  if (leaseMs === undefined || leaseMs < SHORTEST_LEASE_MS || leaseMs > LONGEST_INTERVAL_MS)
    fail(`has the lease ${JSON.stringify(lease)}: give 10 s to 365 days, in milliseconds or like '1h'.`);
  for (const [name, duration] of [
    ['jitter', jitter],
    ['probation', probation],
  ] as const) {
    if (duration !== undefined && parseDuration(duration) === undefined)
      fail(`has the ${name} ${JSON.stringify(duration)}: give milliseconds, or a text like '30s' or '5m'.`);
  }
  if (maxFailures !== undefined && !(Number.isInteger(maxFailures) && maxFailures >= 1))
    fail('has a `maxFailures` that is not a whole number from 1.');
  if (window === undefined) return;
  const fault = windowFault(window);
  if (fault !== undefined) fail(`has a window that ${fault}.`);
}

/** What decides when a secret is due: its policy, and how its rotations went. Times are milliseconds since the epoch. */
export interface RotationHistory {
  readonly createdAt: number;
  readonly lastStartedAt?: number;
  readonly lastEndedAt?: number;
  /** Rotations in a row that failed. */
  readonly failures: number;
}

/**
 * When a secret is due next (milliseconds since the epoch); undefined when it has no active schedule, or has failed too often. A time in the
 * past means that one or more were missed: they are caught up by one rotation. All instances come to the same time.
 */
export function nextRotationAt(name: string, policy: RotationPolicy, history: RotationHistory): number | undefined {
  if (policy.schedule === undefined || policy.enabled === false || isSuspended(policy, history.failures))
    return undefined;
  const { createdAt, lastStartedAt = createdAt, lastEndedAt = lastStartedAt, failures } = history;
  const scheduled = nextRunAt(policy.schedule, lastStartedAt);
  // Stands in for a random number, and is the same in every instance.
  const fraction = hashFraction(`${name} ${lastStartedAt}`);
  const due = failures === 0 ? scheduled : lastEndedAt + backOff(failures) * (0.5 + fraction / 2);
  const jitter = (parseDuration(policy.jitter) ?? 0) * fraction;
  if (policy.window === undefined) return due + jitter;
  const opensAt = openAt(policy.window, due);
  const jittered = opensAt + jitter;
  return openAt(policy.window, jittered) === jittered ? jittered : opensAt;
}

/** Whether the schedule stands still because too many rotations in a row have failed. */
export function isSuspended({ maxFailures = DEFAULT_MAX_FAILURES }: RotationPolicy, failures: number): boolean {
  return failures >= maxFailures;
}

/** How long a credential of an instance is good for unless it is renewed, in milliseconds. */
export function leaseTtlMs({ lease }: RotationPolicy): number {
  return parseDuration(lease) ?? SHORTEST_LEASE_MS;
}

/** How long the version that a promotion replaced stays valid at least. */
export function probationMs(policy: RotationPolicy | undefined, reason: string, now: number): number {
  const stated = parseDuration(policy?.probation);
  if (stated !== undefined) return stated;
  if (reason !== 'schedule' || policy?.schedule === undefined) return 0;
  return Math.min(LONGEST_PROBATION_MS, Math.max(0, nextRunAt(policy.schedule, now) - now) / 10);
}

function nextRunAt(schedule: RotationSchedule, after: number): number {
  if ('every' in schedule) return after + (parseDuration(schedule.every) ?? LONGEST_INTERVAL_MS);
  const zone = schedule.timeZone ?? 'UTC';
  return new CronTime(schedule.cron, zone).getNextDateFrom(new Date(after), zone).toMillis();
}

function backOff(failures: number): number {
  return Math.min(LONGEST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** Math.min(failures - 1, 20));
}

function hashFraction(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE() / 0x1_0000_0000;
}
