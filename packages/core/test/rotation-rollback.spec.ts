import { describe, expect, it } from '@jest/globals';
import { type CredentialFailure, type Secret, secretLink } from '@nestjs-secrets/core';
import { type Fleet, type FleetOptions, LEASE_MS, startFleet, stopAt } from './support/fleet.js';
import type { Login } from './support/world.js';

const MINUTE = 60_000;
const failure = (versionId: string, change: Partial<CredentialFailure> = {}): CredentialFailure => ({
  versionId,
  kind: 'authentication',
  code: '28P01',
  consumer: 'a pool',
  ...change,
});

async function startPair(options: FleetOptions = {}) {
  const fleet = await startFleet({ policy: { probation: '10m' }, ...options });
  const [one, other] = [fleet.at(0), fleet.at(1)];
  const secrets = [await one.secret('Db'), await other.secret('Db')] as const;
  await fleet.clock.advance(0);
  return { fleet, one, other, secrets };
}

/** Somebody changes the password of a version's account by hand. */
const spoil = (fleet: Fleet, { value }: Secret<Login>): void => {
  fleet.target.accounts.set(value.username, 'changed by hand');
};

/** What consumers are told, and look at the store before anything else happens. */
async function report(fleet: Fleet, secret: Secret<Login>, ...failures: CredentialFailure[]): Promise<void> {
  for (const one of failures) secretLink(secret).report(one);
  await fleet.clock.advance(1);
}

const types = (fleet: Fleet) => fleet.events().map(({ type }) => type);
const suspicions = (fleet: Fleet) => fleet.events().filter(({ type }) => type === 'suspected');

describe('a new version that consumers are refused with', () => {
  it('is replaced by the one before, everywhere, and retired itself; a look confirms it', async () => {
    const { fleet, one, other, secrets } = await startPair();
    const before = secrets[0].value;
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(0);
    const bad = secrets[1].value;
    spoil(fleet, secrets[1]);
    await report(fleet, secrets[1], failure('v2'));
    await fleet.clock.advance(0);
    expect(secrets.map(({ versionId, value }) => [versionId, value])).toEqual([
      ['v1', before],
      ['v1', before],
    ]);
    expect(fleet.target.opens(before)).toBe(true);
    expect(suspicions(fleet)).toEqual([
      expect.objectContaining({ versionId: 'v2', confirmed: true, failures: [failure('v2')] }),
    ]);
    expect(one.events).toContainEqual(
      expect.objectContaining({ type: 'rolled-back', versionId: 'v1', failedVersionId: 'v2' }),
    );
    await fleet.settled();
    expect(await fleet.journal()).toMatchObject({
      failures: 1,
      lastRotation: { reason: 'rollback', outcome: 'rolled-back', versionId: 'v1', previousVersionId: 'v2' },
      lastRetired: { versionId: 'v2' },
    });
    expect(await other.manager.listVersions('Db')).toMatchObject([
      { versionId: 'v1', state: 'live', stages: ['current'] },
      { versionId: 'v2', state: 'retired' },
    ]);
    expect(JSON.stringify(fleet.events())).not.toContain(bad.password);
    for (const { runtime } of fleet.members)
      expect(runtime.handles.health().get('Db')).toMatchObject({ versionId: 'v1', rolledBack: true });
    // The next one goes through, and health forgets.
    await other.manager.rotateSecret('Db');
    await fleet.clock.advance(0);
    expect(await fleet.journal()).toMatchObject({ failures: 0 });
    expect(one.runtime.handles.health().get('Db')).toMatchObject({ versionId: 'v3', rolledBack: false });
  });

  it('of the same identity is taken back in the target, so that the old password works again', async () => {
    const { fleet, one, secrets } = await startPair({ ring: ['app'] });
    for (const { rotator } of fleet.members) rotator.identities = undefined;
    const before = secrets[0].value;
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(0);
    expect(fleet.target.opens(before)).toBe(false);
    // It may log in, and may not do what the application does: three are believed where the rotator sees nothing.
    const denied = ['a', 'b', 'c'].map((consumer) => failure('v2', { kind: 'permission', code: '42501', consumer }));
    for (const { rotator } of fleet.members)
      rotator.undo = async ({ current, assertHolder }) => {
        assertHolder();
        if (current !== undefined) fleet.target.accounts.set('app', current.value.password);
      };
    await report(fleet, secrets[0], ...denied);
    await fleet.settled();
    expect([secrets[0].versionId, secrets[0].value]).toEqual(['v1', before]);
    expect(fleet.target.opens(before)).toBe(true);
  });

  it('stays when a look finds nothing: one complaint is not enough', async () => {
    const { fleet, one, secrets } = await startPair();
    await one.manager.rotateSecret('Db');
    await report(fleet, secrets[0], failure('v2'), failure('v2'));
    await fleet.clock.advance(MINUTE);
    expect(suspicions(fleet).every((event) => 'confirmed' in event && !event.confirmed)).toBe(true);
    expect(suspicions(fleet).length).toBeGreaterThan(0);
    expect(secrets[0].versionId).toBe('v2');
  });

  it('is believed to be bad when it is said three times, by whomever, though a look finds nothing', async () => {
    const { fleet, one, secrets } = await startPair();
    await one.manager.rotateSecret('Db');
    await report(fleet, secrets[0], failure('v2'), failure('v2', { code: '42501', kind: 'permission' }));
    expect(secrets[0].versionId).toBe('v2');
    await report(fleet, secrets[1], failure('v2', { consumer: 'another pool' }));
    await fleet.clock.advance(1);
    expect(secrets[0].versionId).toBe('v1');
    expect(one.events.find(({ type }) => type === 'rolled-back')).toMatchObject({
      message: expect.stringContaining('another pool: authentication (28P01)'),
    });
  });

  it('stays when consumers were refused the same with the version before', async () => {
    const { fleet, one, secrets } = await startPair();
    const denied = failure('v1', { kind: 'permission', code: '42501' });
    await report(fleet, secrets[0], denied);
    await one.manager.rotateSecret('Db');
    for (const secret of secrets) await report(fleet, secret, ...[1, 2, 3].map(() => ({ ...denied, versionId: 'v2' })));
    await fleet.clock.advance(MINUTE);
    expect([secrets[0].versionId, types(fleet).includes('rolled-back')]).toEqual(['v2', false]);
    expect(suspicions(fleet).length).toBeGreaterThan(0);
  });

  it('stays when the version before is refused as well: then it is the target that is in trouble', async () => {
    const { fleet, one, secrets } = await startPair();
    spoil(fleet, secrets[0]);
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(0);
    spoil(fleet, secrets[0]);
    await report(fleet, secrets[0], failure('v2'), failure('v2'), failure('v2'));
    await fleet.clock.advance(MINUTE);
    expect([secrets[0].versionId, types(fleet).includes('rolled-back')]).toEqual(['v2', false]);
  });

  it('stays when the version before is being retired already', async () => {
    const { fleet, one, secrets } = await startPair({ policy: {} });
    const retiring = stopAt(one, 'retire');
    await one.manager.rotateSecret('Db');
    await retiring.reached;
    spoil(fleet, secrets[0]);
    await report(fleet, secrets[0], failure('v2'), failure('v2'), failure('v2'));
    retiring.goOn();
    await fleet.settled();
    expect([secrets[0].versionId, types(fleet).includes('rolled-back')]).toEqual(['v2', false]);
    // Where there is no way back there is one forward.
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(0);
    expect(fleet.target.opens(secrets[0].value)).toBe(true);
  });

  it.each(['before it was begun', 'after it was begun'])(
    'is put back by another instance when the one that rotates dies %s',
    async (when) => {
      const { fleet, one, other, secrets } = await startPair();
      await one.manager.rotateSecret('Db');
      await fleet.clock.advance(0);
      spoil(fleet, secrets[1]);
      if (when === 'after it was begun') {
        one.manager.rotationEvents$.subscribe(({ type }) => type === 'suspected' && afterNextCommit(one.host));
        await report(fleet, secrets[1], failure('v2'));
        expect((await fleet.journal()).active).toMatchObject({ reason: 'rollback', step: 'apply' });
      } else {
        one.host.kill();
        await report(fleet, secrets[1], failure('v2'));
      }
      await fleet.clock.advance(4 * LEASE_MS);
      expect(secrets[1].versionId).toBe('v1');
      await fleet.settled();
      expect(other.rotator.deeds).toEqual([{ step: 'retire', versionId: 'v2' }]);
      expect(await fleet.journal()).toMatchObject({ failures: 1, lastRotation: { outcome: 'rolled-back' } });
    },
  );
});

/** The process dies when its next commit has happened, and before it hears of it. */
function afterNextCommit(host: Fleet['members'][number]['host']): void {
  host.beforeCommit = ({ writes }) => {
    if (writes.some(({ key }) => key === 'rotation/Db')) host.kill();
  };
}

describe('rollbacks in a row', () => {
  it('come at growing pauses, and stop loudly after maxFailures; nothing runs hot, and nothing is given up silently', async () => {
    const { fleet, one, secrets } = await startPair({
      policy: { schedule: { every: '1m' }, probation: '50s', maxFailures: 4 },
    });
    for (const secret of secrets)
      secret.changes$.subscribe(({ versionId, value }) => {
        if (versionId === 'v1') return;
        fleet.target.accounts.set(value.username, 'changed by hand');
        secretLink(secret).report(failure(versionId));
      });
    await fleet.clock.advance(15 * MINUTE);
    const rolledBack = fleet.events().filter(({ type }) => type === 'rolled-back');
    expect(rolledBack).toHaveLength(4);
    const pauses = rolledBack.slice(1).map(({ at }, index) => at - (rolledBack[index]?.at ?? 0));
    // Each is drawn from the upper half of one twice as long as the one before; the schedule of a minute counts for nothing meanwhile.
    pauses.forEach((pause, index) => expect(pause).toBeGreaterThanOrEqual(2_500 * 2 ** index));
    pauses.forEach((pause, index) => expect(pause).toBeLessThanOrEqual(5_000 * 2 ** index + LEASE_MS));
    const suspended = fleet.members.map(({ events }) => events.filter(({ type }) => type === 'suspended').length);
    expect(suspended).toEqual([1, 1]);
    expect((await one.manager.describeSecret('Db')).rotation).toMatchObject({
      suspended: true,
      failures: 4,
      nextRotationAt: undefined,
    });
    expect(one.runtime.own?.troubles.current().get('Db')).toMatchObject({ status: 'suspended' });
    expect(secrets.map(({ versionId }) => versionId)).toEqual(['v1', 'v1']);
    expect(fleet.target.opens(secrets[0].value)).toBe(true);
    await one.manager.resumeRotation('Db');
    expect((await one.manager.describeSecret('Db')).rotation).toMatchObject({ suspended: false, failures: 0 });
    await fleet.clock.advance(MINUTE);
    expect(fleet.events().filter(({ type }) => type === 'rolled-back').length).toBeGreaterThan(4);
  });
});
