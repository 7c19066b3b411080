import { describe, expect, it } from '@jest/globals';
import { ephemeralKeys, memoryStore, type RotationPolicy } from '@nestjs-secrets/core';
import { named, startWorld, Target, TargetRotator, type World } from './support/world.js';
import { checkRotationPolicy, nextRotationAt } from '../src/versions/rotation-policy.js';

const HOUR = 3_600_000;

async function scheduled(
  schedule: RotationPolicy['schedule'],
  enabled = true,
): Promise<World & { rotator: TargetRotator; rotations(): number }> {
  const rotator = new TargetRotator(new Target(), undefined);
  const world = await startWorld({ rotators: [named(rotator)] });
  await world.manager.createSecret(
    'Db',
    { username: 'app', password: 'first-password' },
    { rotation: { rotator: 'target', schedule, enabled } },
  );
  await world.runtime.startRotating();
  return { ...world, rotator, rotations: () => world.events.filter(({ type }) => type === 'promoted').length };
}

describe('the schedule', () => {
  it('rotates at its interval', async () => {
    const world = await scheduled({ every: '30s' });
    await world.clock.advance(29_000);
    expect(world.rotations()).toBe(0);
    await world.clock.advance(1_000);
    expect(world.rotations()).toBe(1);
    await world.clock.advance(300_000);
    expect(world.rotations()).toBe(11);
  });

  it('rotates when its cron expression says, in its time zone', async () => {
    // 03:30 in Kolkata is 22:00 UTC of the day before.
    const world = await scheduled({ cron: '30 3 * * *', timeZone: 'Asia/Kolkata' });
    await world.clock.advance(22 * HOUR - 1_000);
    expect(world.rotations()).toBe(0);
    await world.clock.advance(2_000);
    expect(world.rotations()).toBe(1);
    await world.clock.advance(24 * HOUR);
    expect(world.rotations()).toBe(2);
  });

  it('catches up once for everything that was missed while the process was down', async () => {
    const [store, keys] = [memoryStore(), ephemeralKeys()];
    const first = await startWorld({ store, keys, rotators: [] });
    await first.manager.createSecret(
      'Db',
      { username: 'app', password: 'first-password' },
      { rotation: { rotator: 'target', schedule: { every: '1h' } } },
    );
    await first.clock.advance(10.5 * HOUR);
    const rotator = new TargetRotator(new Target(), undefined);
    const second = await startWorld({ store: keepOpen(store), keys, clock: first.clock, rotators: [named(rotator)] });
    await second.runtime.startRotating();
    await second.clock.advance(1);
    expect(second.events.filter(({ type }) => type === 'promoted').length).toBe(1);
    await second.clock.advance(0.9 * HOUR);
    expect(second.events.filter(({ type }) => type === 'promoted').length).toBe(1);
    await second.clock.advance(0.2 * HOUR);
    expect(second.events.filter(({ type }) => type === 'promoted').length).toBe(2);
  });

  it('follows a change of the policy at once', async () => {
    const world = await scheduled({ every: '12h' });
    await world.clock.advance(60_000);
    await world.manager.updateRotationPolicy('Db', { rotator: 'target', schedule: { every: '2m' } });
    await world.clock.advance(59_000);
    expect(world.rotations()).toBe(0);
    await world.clock.advance(1_000);
    expect(world.rotations()).toBe(1);
    await world.manager.updateRotationPolicy('Db', null);
    await world.clock.advance(HOUR);
    expect(world.rotations()).toBe(1);
  });

  it('rests when disabled, and tells when it is due', async () => {
    const world = await scheduled({ every: '1m' }, false);
    await world.clock.advance(HOUR);
    expect(world.rotations()).toBe(0);
    expect((await world.manager.describeSecret('Db')).rotation?.nextRotationAt).toBeUndefined();
    await world.manager.updateRotationPolicy('Db', { rotator: 'target', schedule: { every: '3h' } });
    expect((await world.manager.describeSecret('Db')).rotation?.nextRotationAt).toBe(world.clock.now() + 2 * HOUR);
  });

  it('does not run hot when every rotation fails', async () => {
    const world = await scheduled({ every: '1m' });
    world.rotator.failing.set('create', new Error('no'));
    await world.clock.advance(4 * HOUR);
    const started = world.events.filter(({ type }) => type === 'started').map(({ at }) => at);
    expect(started).toHaveLength(10);
    const pauses = started.slice(1).map((at, index) => at - (started[index] ?? 0));
    // Each pause is drawn from the upper half of one twice as long as the one before.
    pauses.forEach((pause, index) => expect(pause).toBeGreaterThanOrEqual(2_500 * 2 ** index));
    pauses.forEach((pause, index) => expect(pause).toBeLessThanOrEqual(5_000 * 2 ** index));
    expect(world.events.filter(({ type }) => type === 'suspended')).toEqual([
      expect.objectContaining({ secretName: 'Db', failures: 10 }),
    ]);
    expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({
      suspended: true,
      nextRotationAt: undefined,
    });
    world.rotator.failing.clear();
    await world.manager.resumeRotation('Db');
    await world.clock.advance(1);
    expect(world.rotations()).toBe(1);
  });

  it('leaves no timer behind when it stops', async () => {
    const world = await scheduled({ every: '1m' });
    await world.clock.advance(60_000);
    expect(world.clock.pending).toBeGreaterThan(0);
    await world.runtime.stopRotating();
    await world.runtime.close();
    expect(world.clock.pending).toBe(0);
  });
});

describe('a rotation policy', () => {
  it.each([
    [{ every: 0 }],
    [{ every: '0s' as const }],
    [{ every: 499 }],
    [{ every: '366d' as const }],
    [{ every: 'soon' as '1s' }],
    [{ every: Number.NaN }],
    [{ cron: 'every tuesday' }],
    [{ cron: '0 0 * * *', timeZone: 'Mars/Olympus' }],
    [{} as { cron: string }],
  ])('with the schedule %j is refused', (schedule) => {
    expect(() => checkRotationPolicy('Db', { rotator: 'target', schedule })).toThrow(
      expect.objectContaining({ code: 'ROTATION_POLICY_INVALID', secretName: 'Db' }),
    );
  });

  it('is due after the last rotation, over a change to summer time as well', () => {
    const due = nextRotationAt(
      'Db',
      { rotator: 'r', schedule: { cron: '30 2 * * *', timeZone: 'Europe/Berlin' } },
      { createdAt: Date.UTC(2026, 9, 24, 12), failures: 0 },
    );
    expect(new Date(due ?? 0).toISOString()).toBe('2026-10-25T00:30:00.000Z');
  });
});

/** The memory store forgets when it is opened a second time by another runtime; this one stays open. */
function keepOpen(store: ReturnType<typeof memoryStore>): ReturnType<typeof memoryStore> {
  return new Proxy(store, {
    get: (target, property) => {
      if (property === 'open') return async () => undefined;
      const member: unknown = Reflect.get(target, property);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}
