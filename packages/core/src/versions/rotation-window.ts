import { CronTime } from 'cron';

/** A part of the day, every day or on some days of the week. `to` before `from` means over midnight, into the next day. */
export interface RotationWindow {
  /** `HH:MM`, 00:00 to 23:59. */
  readonly from: string;
  readonly to: string;
  /** The days on which the window opens; every day by default. */
  readonly days?: readonly WeekDay[];
  /** UTC by default. */
  readonly timeZone?: string;
}

export type WeekDay = 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat' | 'sun';

const DAYS: readonly WeekDay[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const MINUTES_A_DAY = 1_440;

/** What is wrong with a window, as the end of a sentence; undefined for one that can be used. */
export function windowFault(window: RotationWindow): string | undefined {
  if (typeof window !== 'object' || window === null) return 'is not an object';
  const { from, to, days, timeZone = 'UTC' } = window;
  if (minuteOf(from) === undefined || minuteOf(to) === undefined) return 'lacks `from` or `to` as HH:MM';
  if (from === to) return 'ends when it begins: leave it out to rotate at any time';
  if (days !== undefined && (!Array.isArray(days) || days.length === 0 || !days.every((day) => DAYS.includes(day))))
    return `has days that are not some of ${DAYS.join(', ')}`;
  try {
    new Intl.DateTimeFormat('en-US', { timeZone });
    return undefined;
  } catch {
    return `has the unknown time zone ${JSON.stringify(timeZone)}`;
  }
}

/** The time itself when the window is open then, otherwise when it opens next. Milliseconds since the epoch. */
export function openAt(window: RotationWindow, at: number): number {
  if (isOpen(window, at)) return at;
  const { days, timeZone = 'UTC' } = window;
  const from = minuteOf(window.from) ?? 0;
  const cron = `${from % 60} ${Math.floor(from / 60)} * * ${days?.join(',') ?? '*'}`;
  return new CronTime(cron, timeZone).getNextDateFrom(new Date(at), timeZone).toMillis();
}

function isOpen(window: RotationWindow, at: number): boolean {
  const [from, to] = [minuteOf(window.from) ?? 0, minuteOf(window.to) ?? 0];
  const { day, minute } = localTime(at, window.timeZone ?? 'UTC');
  const opensOn = (wanted: WeekDay): boolean => window.days?.includes(wanted) ?? true;
  if (from < to) return opensOn(day) && minute >= from && minute < to;
  // Over midnight: the early part belongs to the day before.
  if (minute >= from) return opensOn(day);
  return minute < to && opensOn(DAYS[(DAYS.indexOf(day) + DAYS.length - 1) % DAYS.length] ?? day);
}

function localTime(at: number, timeZone: string): { day: WeekDay; minute: number } {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  const parts = new Map(format.formatToParts(at).map(({ type, value }) => [type, value]));
  const day = DAYS.find((name) => name === parts.get('weekday')?.toLowerCase()) ?? 'mon';
  return { day, minute: (Number(parts.get('hour')) * 60 + Number(parts.get('minute'))) % MINUTES_A_DAY };
}

function minuteOf(time: unknown): number | undefined {
  const match = typeof time === 'string' ? /^([01]\d|2[0-3]):([0-5]\d)$/.exec(time) : null;
  return match === null ? undefined : Number(match[1]) * 60 + Number(match[2]);
}
