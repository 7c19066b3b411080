import { describe, expect, it } from '@jest/globals';
import type { RotationPolicy, RotationWindow, WeekDay } from '@nestjs-secrets/core';
import { checkRotationPolicy, nextRotationAt } from '../src/versions/rotation-policy.js';
import { openAt } from '../src/versions/rotation-window.js';
import { seededRandomness } from './seeded-randomness.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DAYS: readonly WeekDay[] = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

const opening = (window: RotationWindow, at: string): string =>
  new Date(openAt(window, Date.parse(at))).toISOString().replace(':00.000Z', 'Z');

/** Another reading of the same words: whether the window is open in a zone whose clocks are so far ahead of UTC. */
function isOpenAhead({ from, to, days = DAYS }: RotationWindow, at: number, aheadMs: number): boolean {
  const local = at + aheadMs;
  const midnight = Math.floor(local / DAY) * DAY;
  const offset = (time: string): number => Date.parse(`1970-01-01T${time}Z`);
  return [midnight - DAY, midnight].some((day) => {
    const weekDay = DAYS[new Date(day).getUTCDay()];
    const begin = day + offset(from);
    const end = day + offset(to) + (offset(to) < offset(from) ? DAY : 0);
    return weekDay !== undefined && days.includes(weekDay) && local >= begin && local < end;
  });
}

describe('a rotation window', () => {
  // 2026-06-10 is a Wednesday.
  it.each<[string, RotationWindow, string, string]>([
    ['before it', { from: '02:00', to: '04:00' }, '2026-06-10T01:59Z', '2026-06-10T02:00Z'],
    ['at its beginning', { from: '02:00', to: '04:00' }, '2026-06-10T02:00Z', '2026-06-10T02:00Z'],
    ['inside it', { from: '02:00', to: '04:00' }, '2026-06-10T03:59Z', '2026-06-10T03:59Z'],
    ['at its end', { from: '02:00', to: '04:00' }, '2026-06-10T04:00Z', '2026-06-11T02:00Z'],
    ['before midnight', { from: '23:00', to: '01:00' }, '2026-06-10T23:30Z', '2026-06-10T23:30Z'],
    ['at midnight', { from: '23:00', to: '01:00' }, '2026-06-11T00:00Z', '2026-06-11T00:00Z'],
    ['after midnight', { from: '23:00', to: '01:00' }, '2026-06-11T00:59Z', '2026-06-11T00:59Z'],
    ['after the end past midnight', { from: '23:00', to: '01:00' }, '2026-06-11T01:00Z', '2026-06-11T23:00Z'],
    ['to midnight', { from: '22:00', to: '00:00' }, '2026-06-10T23:59Z', '2026-06-10T23:59Z'],
    ['at midnight that ends it', { from: '22:00', to: '00:00' }, '2026-06-11T00:00Z', '2026-06-11T22:00Z'],
    ['on another day', { from: '02:00', to: '04:00', days: ['sat'] }, '2026-06-10T03:00Z', '2026-06-13T02:00Z'],
    ['on its day, too late', { from: '02:00', to: '04:00', days: ['wed'] }, '2026-06-10T04:00Z', '2026-06-17T02:00Z'],
    [
      'in the night after its day',
      { from: '23:00', to: '02:00', days: ['tue'] },
      '2026-06-10T01:00Z',
      '2026-06-10T01:00Z',
    ],
    [
      'in the night before its day',
      { from: '23:00', to: '02:00', days: ['wed'] },
      '2026-06-10T01:00Z',
      '2026-06-10T23:00Z',
    ],
    [
      'in a zone ahead by half hours',
      { from: '01:00', to: '02:00', timeZone: 'Asia/Kolkata' },
      '2026-06-10T12:00Z',
      '2026-06-10T19:30Z',
    ],
    [
      'where it is another day already',
      { from: '00:30', to: '02:00', days: ['thu'], timeZone: 'Pacific/Auckland' },
      '2026-06-10T13:00Z',
      '2026-06-10T13:00Z',
    ],
    [
      'where it is the day before still',
      { from: '22:00', to: '23:30', days: ['tue'], timeZone: 'America/Los_Angeles' },
      '2026-06-10T05:30Z',
      '2026-06-10T05:30Z',
    ],
  ])('%s', (_label, window, at, expected) => {
    expect(opening(window, at)).toBe(expected);
  });

  // Clocks go from 02:00 to 03:00 at 01:00 UTC on 29 March, and back from 03:00 to 02:00 at 01:00 UTC on 25 October.
  const timeZone = 'Europe/Berlin';
  it.each<[string, RotationWindow, string, string]>([
    [
      'is an hour earlier in UTC from the day on',
      { from: '04:00', to: '05:00', timeZone },
      '2026-03-28T12:00Z',
      '2026-03-29T02:00Z',
    ],
    [
      'opens late when its beginning is skipped',
      { from: '02:30', to: '04:00', timeZone },
      '2026-03-29T00:00Z',
      '2026-03-29T01:00Z',
    ],
    ['is open over the jump', { from: '01:00', to: '04:00', timeZone }, '2026-03-29T01:30Z', '2026-03-29T01:30Z'],
    [
      'ends at the right time after the jump',
      { from: '01:00', to: '04:00', timeZone },
      '2026-03-29T02:00Z',
      '2026-03-29T23:00Z',
    ],
    // The moment of the jump is the one at which it would have begun.
    [
      'opens for a moment when all of it is skipped',
      { from: '02:00', to: '03:00', timeZone },
      '2026-03-28T12:00Z',
      '2026-03-29T01:00Z',
    ],
    [
      'waits for the next day after that moment',
      { from: '02:00', to: '03:00', timeZone },
      '2026-03-29T01:01Z',
      '2026-03-30T00:00Z',
    ],
  ])('over the change to summer time %s', (_label, window, at, expected) => {
    expect(opening(window, at)).toBe(expected);
  });

  it.each<[string, RotationWindow, string, string]>([
    [
      'is an hour later in UTC from the day on',
      { from: '04:00', to: '05:00', timeZone },
      '2026-10-24T12:00Z',
      '2026-10-25T03:00Z',
    ],
    [
      'opens when the hour comes first',
      { from: '02:00', to: '03:00', timeZone },
      '2026-10-24T12:00Z',
      '2026-10-25T00:00Z',
    ],
    ['is open the first time', { from: '02:00', to: '03:00', timeZone }, '2026-10-25T00:59Z', '2026-10-25T00:59Z'],
    ['is open the second time', { from: '02:00', to: '03:00', timeZone }, '2026-10-25T01:59Z', '2026-10-25T01:59Z'],
    ['ends with the second hour', { from: '02:00', to: '03:00', timeZone }, '2026-10-25T02:00Z', '2026-10-26T01:00Z'],
    [
      'is open for all of a night of eleven hours',
      { from: '22:00', to: '08:00', timeZone },
      '2026-10-25T06:59Z',
      '2026-10-25T06:59Z',
    ],
    ['ends after that night', { from: '22:00', to: '08:00', timeZone }, '2026-10-25T07:00Z', '2026-10-25T21:00Z'],
  ])('over the change to winter time %s', (_label, window, at, expected) => {
    expect(opening(window, at)).toBe(expected);
  });

  it('opens in the first minute in which it is open, for any window in any zone', () => {
    const random = seededRandomness('rotation-window');
    // Far from a change of clocks.
    const zones = [
      ['UTC', 0],
      ['Asia/Kolkata', 5.5],
      ['Asia/Kathmandu', 5.75],
      ['Europe/Berlin', 2],
      ['America/Los_Angeles', -7],
      ['Pacific/Kiritimati', 14],
      ['Pacific/Marquesas', -9.5],
    ] as const;
    const two = (number: number): string => String(number).padStart(2, '0');
    const time = (): string => `${two(random.below(24))}:${two(random.below(60))}`;
    for (let round = 0; round < 150; round += 1) {
      const [zone, ahead] = zones[random.below(zones.length)] ?? ['UTC', 0];
      const [from, to] = [time(), time()];
      const days = DAYS.filter(() => random.below(3) === 0);
      const window = { from, to, timeZone: zone, ...(days.length === 0 ? {} : { days }) };
      if (from === to) continue;
      const at = Date.UTC(2026, 5, 1 + random.below(20), 0, random.below(1_440), random.below(60));
      let expected = at;
      while (!isOpenAhead(window, expected, ahead * HOUR)) expected = Math.floor(expected / MINUTE) * MINUTE + MINUTE;
      expect([window, at, openAt(window, at)]).toEqual([window, at, expected]);
    }
  });
});

describe('a scheduled rotation', () => {
  const createdAt = Date.UTC(2026, 5, 10, 12);
  const next = (policy: Omit<RotationPolicy, 'rotator'>, name = 'Db', history = { createdAt, failures: 0 }): number =>
    nextRotationAt(name, { rotator: 'target', ...policy }, history) ?? Number.NaN;

  it('that falls due outside its window waits until it opens; inside it is on time', () => {
    const window = { from: '02:00', to: '04:00' };
    expect(next({ schedule: { every: '1h' }, window })).toBe(Date.UTC(2026, 5, 11, 2));
    expect(next({ schedule: { every: '15h' }, window })).toBe(Date.UTC(2026, 5, 11, 3));
    expect(next({ schedule: { cron: '0 5 * * *' }, window })).toBe(Date.UTC(2026, 5, 12, 2));
  });

  it('is tried again inside its window only, after a failure as well', () => {
    const lastEndedAt = Date.UTC(2026, 5, 11, 3, 59, 59);
    const history = { createdAt, lastStartedAt: lastEndedAt, lastEndedAt, failures: 3 };
    expect(next({ schedule: { every: '1h' }, window: { from: '02:00', to: '04:00' } }, 'Db', history)).toBe(
      Date.UTC(2026, 5, 12, 2),
    );
  });

  it('begins by its jitter later, never earlier and never by more, each secret at a time of its own', () => {
    const names = Array.from({ length: 1_000 }, (_, index) => `Secret${index}`);
    const delays = names.map((name) => next({ schedule: { every: '1h' }, jitter: '10m' }, name) - createdAt - HOUR);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...delays)).toBeLessThan(10 * MINUTE);
    // Spread evenly: in each of the ten minutes about a hundred.
    for (let minute = 0; minute < 10; minute += 1) {
      const within = delays.filter((delay) => Math.floor(delay / MINUTE) === minute).length;
      expect(within).toBeGreaterThan(60);
      expect(within).toBeLessThan(140);
    }
    // The same in every instance and at every look.
    expect(names.map((name) => next({ schedule: { every: '1h' }, jitter: '10m' }, name) - createdAt - HOUR)).toEqual(
      delays,
    );
  });

  it('is not carried out of its window by its jitter', () => {
    const window = { from: '02:00', to: '02:10' };
    let atOpening = 0;
    for (let secret = 0; secret < 200; secret += 1) {
      const at = next({ schedule: { every: '1h' }, window, jitter: '20m' }, `Secret${secret}`);
      expect(openAt(window, at)).toBe(at);
      expect(at).toBeLessThan(Date.UTC(2026, 5, 11, 2, 10));
      if (at === Date.UTC(2026, 5, 11, 2)) atOpening += 1;
    }
    expect(atOpening).toBeGreaterThan(50);
    expect(atOpening).toBeLessThan(150);
  });
});

describe('a window that cannot be used', () => {
  it.each<[unknown, string]>([
    [{ from: '24:00', to: '04:00' }, 'HH:MM'],
    [{ from: '2:00', to: '04:00' }, 'HH:MM'],
    [{ from: '02:00' }, 'HH:MM'],
    [{ from: '02:00', to: '02:00' }, 'ends when it begins'],
    [{ from: '02:00', to: '04:00', days: [] }, 'days'],
    [{ from: '02:00', to: '04:00', days: ['monday'] }, 'days'],
    [{ from: '02:00', to: '04:00', timeZone: 'Mars/Olympus' }, 'Mars/Olympus'],
    ['nightly', 'not an object'],
    [null, 'not an object'],
  ])('such as %j is refused', (window, why) => {
    const policy = { rotator: 'target', schedule: { every: '1h' }, window } as RotationPolicy;
    expect(() => checkRotationPolicy('Db', policy)).toThrow(
      expect.objectContaining({ code: 'ROTATION_POLICY_INVALID', message: expect.stringContaining(why) }),
    );
  });
});
