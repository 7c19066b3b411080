import { describe, expect, it } from '@jest/globals';
import type { RotationPolicy } from '@nestjs-secrets/core';
import { DueTimes } from '../src/rotation/due-times.js';
import { nextRotationAt, type RotationHistory } from '../src/versions/rotation-policy.js';
import { seededRandomness } from './seeded-randomness.js';
import { type Fleet, LEASE_MS, startFleet } from './support/fleet.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe('due times', () => {
  it('come up in order, as from a sorted array, whatever was set, replaced and taken off before', () => {
    const random = seededRandomness('rotation-due-times');
    const due = new DueTimes();
    const expected = new Map<string, number>();
    const change = (): void => {
      const name = `Secret${random.below(7_000)}`;
      const at = random.below(1_000_000);
      if (random.below(8) === 0) {
        due.set(name, undefined);
        expected.delete(name);
      } else {
        due.set(name, at);
        expected.set(name, at);
      }
    };
    const earliest = (): number | undefined => {
      let least: number | undefined;
      for (const at of expected.values()) if (least === undefined || at < least) least = at;
      return least;
    };
    for (let entry = 0; entry < 10_000; entry += 1) change();
    expect([due.size, due.earliest()]).toEqual([expected.size, earliest()]);
    // Taken and set by turns, as when rotations are planned anew while others come up.
    for (let now = 0; now < 200_000; now += 2_000) {
      for (let entry = 0; entry < 20; entry += 1) change();
      const ready = [...expected].filter(([, at]) => at <= now).map(([, at]) => at);
      const taken: number[] = [];
      for (let name = due.take(now); name !== undefined; name = due.take(now)) {
        taken.push(expected.get(name) ?? Number.NaN);
        expected.delete(name);
      }
      expect(taken).toEqual(ready.sort((one, other) => one - other));
      expect([due.size, due.earliest()]).toEqual([expected.size, earliest()]);
    }
    const rest: [string, number][] = [];
    for (let name = due.take(Infinity); name !== undefined; name = due.take(Infinity))
      rest.push([name, expected.get(name) ?? Number.NaN]);
    expect(rest.map(([, at]) => at)).toEqual([...expected.values()].sort((one, other) => one - other));
    expect(new Set(rest.map(([name]) => name))).toEqual(new Set(expected.keys()));
    expect([due.size, due.earliest()]).toEqual([0, undefined]);
  });

  it('are not due before their time', () => {
    const due = new DueTimes();
    due.set('Db', 10);
    expect([due.take(9), due.size]).toEqual([undefined, 1]);
    expect([due.take(10), due.take(10), due.size]).toEqual(['Db', undefined, 0]);
  });

  it('count once for a name, by the time that was set last', () => {
    const due = new DueTimes();
    due.set('Db', 5);
    due.set('Db', 20);
    due.set('Other', 10);
    expect([due.size, due.earliest(), due.take(15), due.take(15), due.take(20)]).toEqual([
      2,
      10,
      'Other',
      undefined,
      'Db',
    ]);
  });

  it('do not pile up where one name is set again and again', () => {
    const due = new DueTimes();
    due.set('Other', 1e9);
    for (let at = 0; at < 100_000; at += 1) due.set('Db', 1e6 - at);
    expect([due.size, due.earliest(), due.take(Infinity), due.take(Infinity), due.take(Infinity)]).toEqual([
      2,
      1e6 - 99_999,
      'Db',
      'Other',
      undefined,
    ]);
  });

  it('are forgotten when they are cleared', () => {
    const due = new DueTimes();
    due.set('Db', 1);
    due.clear();
    expect([due.size, due.earliest(), due.take(Infinity)]).toEqual([0, undefined, undefined]);
  });
});

describe('when a secret is due', () => {
  const next = (policy: Omit<RotationPolicy, 'rotator'>, history: Partial<RotationHistory>): string | undefined => {
    const at = nextRotationAt('Db', { rotator: 'target', ...policy }, { createdAt: 0, failures: 0, ...history });
    return at === undefined ? undefined : new Date(at).toISOString().replace(':00.000Z', 'Z');
  };
  const cron = (expression: string, timeZone?: string, after = '2026-06-10T12:00Z') =>
    next({ schedule: { cron: expression, ...(timeZone && { timeZone }) } }, { lastStartedAt: Date.parse(after) });

  it.each([
    ['0 3 * * *', undefined, '2026-06-11T03:00Z'],
    ['0 3 * * *', 'Asia/Kolkata', '2026-06-10T21:30Z'],
    ['30 4 1 * *', 'America/New_York', '2026-07-01T08:30Z'],
    ['0 0 * * mon', 'Pacific/Auckland', '2026-06-14T12:00Z'],
    ['*/15 * * * *', undefined, '2026-06-10T12:15Z'],
  ])('is what the cron expression %s says in %s', (expression, timeZone, expected) => {
    expect(cron(expression, timeZone)).toBe(expected);
  });

  it('is once a night over a change of clocks, on the nights that skip the time and that have it twice', () => {
    const nights = (from: string, count: number): (string | undefined)[] => {
      const times: (string | undefined)[] = [];
      for (let after = from; times.length < count; after = times.at(-1) ?? '')
        times.push(cron('30 2 * * *', 'Europe/Berlin', after));
      return times;
    };
    expect(nights('2026-03-27T12:00Z', 3)).toEqual(['2026-03-28T01:30Z', '2026-03-29T01:00Z', '2026-03-30T00:30Z']);
    expect(nights('2026-10-23T12:00Z', 3)).toEqual(['2026-10-24T00:30Z', '2026-10-25T00:30Z', '2026-10-26T01:30Z']);
  });

  it('is an interval after the last rotation began, or after the secret was made', () => {
    expect(next({ schedule: { every: '1h' } }, { createdAt: HOUR })).toBe('1970-01-01T02:00Z');
    expect(next({ schedule: { every: '1h' } }, { lastStartedAt: 5 * HOUR, lastEndedAt: 5.5 * HOUR })).toBe(
      '1970-01-01T06:00Z',
    );
  });

  it('is never without a schedule, while it is paused, and after too many failures', () => {
    expect(next({}, {})).toBeUndefined();
    expect(next({ schedule: { every: '1h' }, enabled: false }, {})).toBeUndefined();
    expect(next({ schedule: { every: '1h' } }, { failures: 10 })).toBeUndefined();
    expect(next({ schedule: { every: '1h' } }, { failures: 9 })).toBeDefined();
    expect(next({ schedule: { every: '1h' }, maxFailures: 3 }, { failures: 3 })).toBeUndefined();
  });

  it('is put off after failures by a jittered pause that doubles up to an hour, counted from the end of the last', () => {
    for (let failures = 1; failures <= 40; failures += 1) {
      const policy: RotationPolicy = { rotator: 'target', schedule: { every: '1s' }, maxFailures: 100 };
      const pauses = Array.from({ length: 50 }, (_, index) => {
        const history = { createdAt: 0, lastStartedAt: index, lastEndedAt: 7_000, failures };
        return (nextRotationAt('Db', policy, history) ?? Number.NaN) - 7_000;
      });
      const longest = Math.min(HOUR, 5_000 * 2 ** (failures - 1));
      expect(Math.min(...pauses)).toBeGreaterThanOrEqual(longest / 2);
      expect(Math.max(...pauses)).toBeLessThanOrEqual(longest);
      expect(new Set(pauses).size).toBeGreaterThan(40);
    }
  });
});

describe('the schedule of a fleet', () => {
  const promoted = (fleet: Fleet): number[] =>
    fleet
      .events()
      .filter(({ type }) => type === 'promoted')
      .map(({ at }) => at);

  it('catches up once, and by one instance, for everything that was missed while all were away', async () => {
    const fleet = await startFleet({ policy: { schedule: { every: '10m' }, probation: 0 } });
    for (const { host } of fleet.members) host.freeze();
    await fleet.clock.advance(2 * HOUR);
    for (const { host } of fleet.members) host.thaw();
    const backAt = fleet.clock.now();
    await fleet.clock.advance(MINUTE);
    expect(promoted(fleet)).toHaveLength(1);
    expect(promoted(fleet)[0]).toBeLessThanOrEqual(backAt + 2 * LEASE_MS);
    await fleet.clock.advance(8 * MINUTE);
    expect(promoted(fleet)).toHaveLength(1);
    await fleet.clock.advance(3 * MINUTE);
    expect(promoted(fleet)).toHaveLength(2);
  });

  it('catches up inside the window only', async () => {
    // The simulated clock begins at midnight, UTC.
    const fleet = await startFleet({
      policy: { schedule: { every: '5m' }, window: { from: '00:02', to: '00:04' }, probation: 0 },
    });
    await fleet.clock.advance(20 * MINUTE);
    // Due at 00:05, when the window has just closed.
    expect(promoted(fleet)).toEqual([]);
    const at = (await fleet.at(0).manager.describeSecret('Db')).rotation?.nextRotationAt ?? 0;
    expect(new Date(at).toISOString()).toBe('2030-01-02T00:02:00.000Z');
  });

  it('stands still in every instance after pauseRotation, and goes on in one after resumeRotation', async () => {
    const fleet = await startFleet({ policy: { schedule: { every: '1m' }, probation: 0 } });
    await fleet.clock.advance(90_000);
    expect(promoted(fleet)).toHaveLength(1);
    await fleet.at(1).manager.pauseRotation('Db');
    await fleet.clock.advance(10 * MINUTE);
    expect(promoted(fleet)).toHaveLength(1);
    const paused = await fleet.at(0).manager.describeSecret('Db');
    expect(paused.rotation).toMatchObject({ policy: { enabled: false }, nextRotationAt: undefined, suspended: false });
    // What is asked for is done all the same.
    await fleet.at(0).manager.rotateSecret('Db');
    expect(promoted(fleet)).toHaveLength(2);
    await fleet.clock.advance(10 * MINUTE);
    expect(promoted(fleet)).toHaveLength(2);
    await fleet.at(0).manager.resumeRotation('Db');
    await fleet.clock.advance(10_000);
    // Ten were missed, and one is made up for.
    expect(promoted(fleet)).toHaveLength(3);
    await fleet.clock.advance(MINUTE);
    expect(promoted(fleet)).toHaveLength(4);
  });

  it('tells when the last rotation was and when the next is', async () => {
    const fleet = await startFleet({ policy: { schedule: { every: '10m' }, probation: 0 } });
    const begunAt = fleet.clock.now();
    const described = async () => (await fleet.at(1).manager.describeSecret('Db')).rotation;
    expect(await described()).toMatchObject({ lastRotation: undefined, nextRotationAt: begunAt + 10 * MINUTE });
    await fleet.clock.advance(15 * MINUTE);
    expect(await described()).toMatchObject({
      lastRotation: { reason: 'schedule', outcome: 'promoted', startedAt: begunAt + 10 * MINUTE },
      nextRotationAt: begunAt + 20 * MINUTE,
    });
  });
});
