import { afterEach, describe, expect, it } from '@jest/globals';
import {
  ephemeralKeys,
  type KeyProvider,
  type LifecycleEvent,
  memoryStore,
  type SecretsModuleOptions,
  type StoreDriver,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import type { Lifecycle } from '../src/lifecycle/lifecycle.js';
import { codeOf } from './support/code-of.js';
import { Host } from './support/host.js';
import { sharedKeys, startFleet } from './support/fleet.js';
import { startWorld, type World } from './support/world.js';

const HOUR_MS = 3_600_000;
/** Nobody sets a policy here. */
const SELDOM = { refreshIntervalMs: 300 * 86_400_000, maxStalenessMs: 900 * 86_400_000 };
const DAY_MS = 24 * HOUR_MS;
const LEASE = { leaseMs: 6 * HOUR_MS, processes: unknownProcesses };
/** What an instance waits at most, so that not all come at once. */
const JITTER_MS = 1_000;

interface Member extends World {
  readonly host: Host;
  readonly lifecycle: Lifecycle;
  readonly keys: KeyProvider;
}

let members: Member[] = [];
let clock = new SimulatedClock();
let shared: StoreDriver;
let events: LifecycleEvent[] = [];

async function start(size = 1, options: Pick<SecretsModuleOptions, 'limits' | 'expiryWarnings'> = {}): Promise<Member> {
  clock = new SimulatedClock();
  shared = memoryStore();
  events = [];
  await shared.open();
  const keys = sharedKeys(ephemeralKeys());
  for (let place = 0; place < size; place += 1) {
    const host = new Host(clock, shared);
    let ids = 0;
    const world = await startWorld({
      clock,
      host,
      keys,
      ids: { next: () => `p${place}-${(ids += 1)}` },
      instance: LEASE,
      policies: SELDOM,
      ...options,
    });
    const lifecycle = world.runtime.own?.lifecycle;
    if (lifecycle === undefined) throw new Error('no manager');
    lifecycle.events$.subscribe((event) => events.push(event));
    await world.runtime.startRotating();
    members.push({ ...world, host, lifecycle, keys });
  }
  return at(0);
}

function at(place: number): Member {
  const member = members[place];
  if (member === undefined) throw new Error(`there is no member ${place}`);
  return member;
}

afterEach(async () => {
  for (const { runtime, host } of members) {
    if (host.isCutOff) continue;
    await runtime.stopRotating();
    await runtime.close();
  }
  members = [];
  expect(clock.pending).toBe(0);
});

function told(): string[] {
  return events.map((event) => ('versionId' in event ? `${event.type} ${event.versionId}` : event.type));
}

async function keysUnder(prefix: string): Promise<string[]> {
  return (await shared.list({ prefix, limit: 1000 })).map(({ key }) => key);
}

describe('the end of a version', () => {
  it('is told 7 days, 1 day and 1 hour before, and comes on time', async () => {
    const { manager } = await start(2);
    await manager.createSecret('S', 'one', { ttl: '30d' });
    await clock.advance(23 * DAY_MS - 1);
    expect(told()).toEqual([]);
    await clock.advance(1 + JITTER_MS);
    // Once, though there are two instances.
    expect(told()).toEqual(['expiring v1']);
    expect(events[0]).toMatchObject({ secretName: 'S', expiresAt: Date.UTC(2030, 0, 31) });
    await clock.advance(6 * DAY_MS);
    expect(told()).toEqual(['expiring v1', 'expiring v1']);
    await clock.advance(DAY_MS - HOUR_MS);
    expect(told()).toEqual(['expiring v1', 'expiring v1', 'expiring v1']);
    await clock.advance(HOUR_MS - 2 * JITTER_MS);
    expect((await manager.getSecretValue('S')).value).toBe('one');
    await clock.advance(2 * JITTER_MS);
    expect(told().slice(3)).toEqual(['expired v1']);
    expect(await codeOf(manager.getSecretValue('S'))).toBe('SECRET_EXPIRED');
    await clock.advance(5 * DAY_MS);
    expect(told()).toHaveLength(4);
    expect(await keysUnder('due/')).toEqual([]);
  });

  it('is not told of a version that has no stage any more, nor before it was made', async () => {
    const { manager } = await start(1, { expiryWarnings: ['2d'] });
    await manager.createSecret('S', 'one', { ttl: '3d' });
    await manager.createSecret('Short', 'one', { ttl: '1d' });
    await clock.advance(HOUR_MS);
    for (const value of ['two', 'three']) await manager.putSecretValue('S', value);
    await clock.advance(DAY_MS - HOUR_MS + 2 * JITTER_MS);
    // Those of previous and current come an hour later; the first version has no stage, and Short is too short for a warning.
    expect(told()).toEqual(['expired v1']);
    expect(events[0]?.secretName).toBe('Short');
    await clock.advance(HOUR_MS);
    expect(told().toSorted()).toEqual(['expired v1', 'expiring v2', 'expiring v3']);
  });

  it('that was missed while nobody was there is told once, by the latest warning', async () => {
    const { manager, runtime } = await start();
    await manager.createSecret('S', 'one', { ttl: '30d' });
    await runtime.stopRotating();
    await clock.advance(29 * DAY_MS + HOUR_MS);
    expect(told()).toEqual([]);
    // The same process would not start anew; another one does, over the same keys.
    const { keys } = members[0] ?? {};
    const host = new Host(clock, shared);
    const again = await startWorld({
      clock,
      host,
      ids: { next: () => 'p1' },
      ...(keys && { keys }),
      instance: LEASE,
      policies: SELDOM,
    });
    again.runtime.own?.lifecycle.events$.subscribe((event) => events.push(event));
    await again.runtime.startRotating();
    expect(told()).toEqual(['expiring v1']);
    await clock.advance(DAY_MS);
    expect(told()).toEqual(['expiring v1', 'expiring v1', 'expired v1']);
    await again.runtime.stopRotating();
    await again.runtime.close();
  });
});

describe('a deleted secret', () => {
  it('gives no value, takes none, can be restored, and is gone after its window', async () => {
    const { manager, lifecycle } = await start(2);
    await manager.createSecret('S', 'one');
    await lifecycle.deleteSecret('S', { recoveryWindow: '7d' });
    for (const refused of [
      manager.getSecretValue('S'),
      at(1).manager.getSecretValue('S', { versionId: 'v1' }),
      manager.putSecretValue('S', 'two'),
      manager.createSecret('S', 'two'),
      manager.rotateSecret('S'),
    ])
      expect(await codeOf(refused)).toBe('SECRET_DELETED');
    await clock.advance(6 * DAY_MS);
    await at(1).lifecycle.restoreSecret('S');
    await clock.advance(30 * DAY_MS);
    expect((await manager.getSecretValue('S')).value).toBe('one');

    await lifecycle.deleteSecret('S', { recoveryWindow: '7d' });
    await clock.advance(DAY_MS);
    // Deleting it again does not put it off.
    await lifecycle.deleteSecret('S');
    await clock.advance(6 * DAY_MS + JITTER_MS);
    expect(await codeOf(manager.getSecretValue('S'))).toBe('SECRET_NOT_FOUND');
    expect(told()).toEqual(['deleted', 'restored', 'deleted', 'purged']);
    const left = [await keysUnder('secret/'), await keysUnder('value/'), await keysUnder('due/')].flat();
    expect(left).toEqual([]);
  });

  it('is removed by another instance when the one that deleted it died', async () => {
    const { manager, lifecycle, host } = await start(2);
    await manager.createSecret('S', 'one');
    await lifecycle.deleteSecret('S', { recoveryWindow: '7d' });
    host.kill();
    host.isCutOff = true;
    await clock.advance(7 * DAY_MS + JITTER_MS);
    expect(await codeOf(at(1).manager.getSecretValue('S'))).toBe('SECRET_NOT_FOUND');
    // The timers of a dead process do not run, but they are still set.
    await at(1).runtime.stopRotating();
    await at(1).runtime.close();
    members = [];
    clock = new SimulatedClock();
  });

  it('is gone at once by force, and a new one of its name has nothing that the old one had', async () => {
    const { manager, lifecycle, secret } = await start();
    await manager.createSecret('S', 'one');
    for (const value of ['two', 'three']) await manager.putSecretValue('S', value);
    const handle = await secret('S');
    await lifecycle.deleteSecret('S', { force: true });
    expect(await codeOf(manager.getSecretValue('S'))).toBe('SECRET_NOT_FOUND');
    await manager.createSecret('S', 'anew');
    expect((await manager.listVersions('S')).map(({ versionId }) => versionId)).toEqual(['v4']);
    // Who knew the old one takes the new one for newer.
    await handle.refresh();
    expect([handle.versionId, handle.value]).toEqual(['v4', 'anew']);
  });

  it('refuses a window out of range, and force along with a window', async () => {
    const { manager, lifecycle } = await start();
    await manager.createSecret('S', 'one');
    for (const recoveryWindow of ['6d', '31d', 0, Number.NaN, -1] as const)
      expect(await codeOf(lifecycle.deleteSecret('S', { recoveryWindow }))).toBe('DELETION_INVALID');
    expect(await codeOf(lifecycle.deleteSecret('S', { recoveryWindow: '7d', force: true }))).toBe('DELETION_INVALID');
    expect(await codeOf(lifecycle.deleteSecret('T'))).toBe('SECRET_NOT_FOUND');
    expect(await codeOf(lifecycle.restoreSecret('T'))).toBe('SECRET_NOT_FOUND');
    expect((await manager.getSecretValue('S')).value).toBe('one');
  });

  it('stays with whoever holds it, and is not rotated by schedule', async () => {
    const fleet = await startFleet({ size: 1, policy: { schedule: { every: '1h' } } });
    const { runtime, manager, secret } = fleet.at(0);
    const handle = await secret('Db');
    const before = handle.versionId;
    await runtime.own?.lifecycle.deleteSecret('Db');
    await fleet.clock.advance(3 * HOUR_MS);
    expect((await fleet.journal()).lastRotation).toBeUndefined();
    await handle.refresh().catch(() => undefined);
    expect([handle.versionId, handle.value.password]).toEqual([before, 'first-password']);
    await runtime.own?.lifecycle.restoreSecret('Db');
    await fleet.clock.advance(2 * HOUR_MS);
    expect((await fleet.journal()).lastRotation).toMatchObject({ outcome: 'promoted' });
    expect((await manager.getSecretValue('Db')).versionId).not.toBe(before);
    await runtime.stopRotating();
    await runtime.close();
  });

  it('is not removed, not even by force, before its old credential is dead', async () => {
    const fleet = await startFleet({ size: 1 });
    const { runtime, rotator, manager } = fleet.at(0);
    const lifecycle = runtime.own?.lifecycle;
    rotator.failing.set('retire', new Error('the target is away'));
    await manager.rotateSecret('Db');
    await fleet.clock.advance(1000);
    expect(await codeOf(lifecycle?.deleteSecret('Db', { force: true }) ?? Promise.resolve())).toBe('SECRET_IN_USE');
    rotator.failing.clear();
    await fleet.settled();
    await lifecycle?.deleteSecret('Db', { force: true });
    expect(await codeOf(manager.getSecretValue('Db'))).toBe('SECRET_NOT_FOUND');
    expect((await fleet.shared.list({ prefix: 'rotation/Db', limit: 1 })).length).toBe(0);
    await runtime.stopRotating();
    await runtime.close();
  });
});

describe('an old version', () => {
  it('is destroyed by its number, now or later, unless it gets a stage before that', async () => {
    const { manager, lifecycle } = await start();
    await manager.createSecret('S', 1);
    for (const value of [2, 3, 4]) await manager.putSecretValue('S', value);
    expect(await codeOf(lifecycle.destroyVersion('S', 'v4'))).toBe('VERSION_IN_USE');
    expect(await codeOf(lifecycle.destroyVersion('S', 'v3'))).toBe('VERSION_IN_USE');
    expect(await codeOf(lifecycle.destroyVersion('S', 'v9'))).toBe('VERSION_NOT_FOUND');
    expect(await codeOf(lifecycle.destroyVersion('S', 'v1', { after: '31d' }))).toBe('DELETION_INVALID');
    await lifecycle.destroyVersion('S', 'v1');
    expect(await keysUnder('value/')).toEqual(['value/S:v2', 'value/S:v3', 'value/S:v4']);
    await lifecycle.destroyVersion('S', 'v2', { after: '7d' });
    await clock.advance(6 * DAY_MS);
    await manager.updateVersionStage('S', 'kept', 'v2');
    await clock.advance(30 * DAY_MS);
    expect((await manager.getSecretValue('S', { stage: 'kept' })).value).toBe(2);
    await manager.updateVersionStage('S', 'kept', null);
    await clock.advance(60 * DAY_MS);
    expect(await keysUnder('value/')).toHaveLength(3);
  });

  it('is destroyed some time after it lost its last stage, where the secret says so', async () => {
    const { manager } = await start(2);
    await manager.createSecret('S', 1, { destroyOldAfter: '2d' });
    for (const value of [2, 3]) await manager.putSecretValue('S', value);
    await clock.advance(DAY_MS);
    await manager.putSecretValue('S', 4);
    await clock.advance(DAY_MS + JITTER_MS);
    expect(told()).toEqual(['version-destroyed v1']);
    expect(await keysUnder('value/')).toEqual(['value/S:v2', 'value/S:v3', 'value/S:v4']);
    await clock.advance(DAY_MS);
    expect(told()).toEqual(['version-destroyed v1', 'version-destroyed v2']);
    await clock.advance(30 * DAY_MS);
    expect((await manager.listVersions('S')).map(({ versionId }) => versionId)).toEqual(['v3', 'v4']);
    expect(await codeOf(manager.getSecretValue('S', { versionId: 'v1' }))).toBe('VERSION_NOT_FOUND');
  });
});

describe('limits', () => {
  it('keep the versions of a secret and the size of a value where they were set', async () => {
    const { manager } = await start(1, { limits: { versionsPerSecret: 15, valueBytes: 100 } });
    await manager.createSecret('S', 0);
    expect(await codeOf(manager.putSecretValue('S', 'x'.repeat(200)))).toBe('VALUE_TOO_LARGE');
    // Old versions make room by themselves, those with a stage do not.
    for (let count = 1; count < 40; count += 1) await manager.putSecretValue('S', count);
    const codes: string[] = [];
    for (let count = 0; count < 6; count += 1)
      codes.push(await codeOf(manager.putSecretValue('S', `s${count}`, { stages: [`stage-${count}`] })));
    expect(codes).toEqual([
      ...Array.from({ length: 3 }, () => 'nothing was thrown'),
      'VERSION_LIMIT',
      'VERSION_LIMIT',
      'VERSION_LIMIT',
    ]);
    expect((await manager.getSecretValue('S')).value).toBe(39);
    await manager.updateVersionStage('S', 'stage-0', null);
    expect(await codeOf(manager.putSecretValue('S', 'fits again', { stages: ['stage-9'] }))).toBe('nothing was thrown');
  });

  it('must make sense', async () => {
    for (const limits of [{ versionsPerSecret: 3 }, { valueBytes: 0 }, { valueBytes: 2_000_000 }, { valueBytes: 1.5 }])
      expect(await codeOf(start(1, { limits }))).toBe('MODULE_OPTIONS_INVALID');
    expect(await codeOf(start(1, { expiryWarnings: [Number.NaN] }))).toBe('MODULE_OPTIONS_INVALID');
  });
});
