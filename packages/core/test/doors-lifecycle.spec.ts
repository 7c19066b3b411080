import { afterEach, describe, expect, it } from '@jest/globals';
import { type AuditEvent, principalOf, secretResource } from '@nestjs-secrets/core';
import { denying, type DoorsWorld, type DoorsWorldOptions, OWN_ID, startDoors } from './support/doors-world.js';
import { documentOf, readPolicy } from './support/policy-world.js';

const DAY_MS = 86_400_000;

let world: DoorsWorld;
afterEach(() => world.stop());

async function start(options: DoorsWorldOptions = {}): Promise<void> {
  world = await startDoors({ instance: { leaseMs: DAY_MS / 4 }, refreshIntervalMs: 300 * DAY_MS, ...options });
  await world.runtime.startRotating();
}

/** The clock goes on until the work is over. */
async function over<T>(work: Promise<T>): Promise<T> {
  let isOver = false;
  const settle = (): void => {
    isOver = true;
  };
  work.then(settle, settle);
  for (let steps = 0; steps < 2000 && !isOver; steps += 1) await world.clock.advance(5);
  return work;
}

const of = (events: readonly AuditEvent[], name: string): AuditEvent[] =>
  events.filter(({ eventName }) => eventName === name);

describe('what ends by itself', () => {
  it('is recorded before it happens: a deleted secret, an old version, a master key', async () => {
    await start();
    const { manager, clock } = world;
    await over(manager.createSecret('S', 1, { destroyOldAfter: '1d' }));
    for (const value of [2, 3]) await over(manager.putSecretValue('S', value));
    await over(manager.keys.createKey({ alias: 'doomed' }));
    const { id } = await over(manager.keys.scheduleDestruction('doomed', { recoveryWindow: '7d' }));
    await over(manager.deleteSecret('S', { recoveryWindow: '8d' }));
    await clock.advance(2 * DAY_MS);
    const events = world.news();
    expect(of(events, 'PurgeSecretVersion')).toMatchObject([
      { resourceName: 'S', requestParameters: { versionIds: ['v1'] }, userIdentity: { principalId: OWN_ID } },
    ]);
    await clock.advance(7 * DAY_MS);
    const later = world.news();
    expect(of(later, 'PurgeKeyVersion')).toMatchObject([{ resourceName: id, requestParameters: { version: 1 } }]);
    expect(of(later, 'PurgeSecret')).toMatchObject([{ resourceName: 'S', userIdentity: { principalId: OWN_ID } }]);
    expect(await world.store.get('secret/S')).toBeUndefined();
  });

  it('does not happen while the log cannot take its event, and happens afterwards', async () => {
    await start();
    const { manager, clock, sink } = world;
    await over(manager.createSecret('S', 1));
    await over(manager.deleteSecret('S', { recoveryWindow: '7d' }));
    sink.mood = 'failing';
    await clock.advance(7 * DAY_MS + 60_000);
    expect(await world.store.get('secret/S')).toBeDefined();
    sink.mood = 'well';
    await clock.advance(60_000);
    expect(await world.store.get('secret/S')).toBeUndefined();
    expect(sink.events.map(({ eventName }) => eventName)).toContain('PurgeSecret');
  });

  it('does not happen where policies do not allow it', async () => {
    await start({ statements: [denying('PurgeSecret')] });
    const { manager, clock } = world;
    await over(manager.createSecret('S', 1));
    await over(manager.deleteSecret('S', { recoveryWindow: '7d' }));
    await clock.advance(7 * DAY_MS + 10_000);
    expect(await world.store.get('secret/S')).toBeDefined();
    expect(of(world.news(), 'PurgeSecret')[0]).toMatchObject({ errorCode: 'AccessDenied' });
  });
});

describe('a secret that is gone', () => {
  it('takes its policy along', async () => {
    await start();
    const { manager } = world;
    await over(manager.createSecret('S', 1));
    const own = documentOf({ Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal: 'remote/a' });
    await over(manager.setSecretPolicy('S', own, { force: true }));
    await over(manager.deleteSecret('S', { force: true }));
    await over(manager.createSecret('S', 2));
    expect(await over(manager.getSecretPolicy('S'))).toBeUndefined();
    const stranger = manager.as(principalOf('remote', 'a'));
    await expect(over(stranger.getSecretValue('S'))).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });
});

describe('a master key', () => {
  it('takes policies and the key of the audit log along when it rotates, so that its old version can go', async () => {
    await start();
    const { manager, clock } = world;
    const reader = principalOf('remote', 'a');
    await over(manager.policies.putPolicy(readPolicy('readers', 'remote/a')));
    await over(manager.createSecret('S', 1));
    await over(manager.keys.rotateKey('default', { rewrap: false }));
    await expect(over(manager.keys.scheduleDestruction('default', { version: 1 }))).rejects.toMatchObject({
      code: 'KEY_IN_USE',
      message: expect.stringContaining('policy/key'),
    });
    await over(manager.keys.rewrap('all'));
    await over(manager.keys.scheduleDestruction('default', { version: 1, recoveryWindow: '7d' }));
    await clock.advance(8 * DAY_MS);
    expect((await over(manager.keys.describeKey('default'))).versions[0]?.state).toBe('destroyed');
    // The policies are the same, in this process and in one that reads them anew.
    const allowed = await over(
      manager.policies.simulate(reader, 'secrets:GetSecretValue', secretResource('S', { tags: {} })),
    );
    expect(allowed).toMatchObject({ allowed: true });
    expect((await over(manager.policies.getPolicy('readers')))?.principals).toEqual(['remote/a']);
    expect((await over(manager.policies.listPolicies())).corrupt).toEqual([]);
  });

  it('cannot be reached by an alias where its id is denied', async () => {
    await start({ statements: [denying('DescribeKey', { Resource: 'key/ephemeral:*' })] });
    for (const key of ['default', (await world.runtime.own?.versions.keys.defaultId()) ?? ''])
      await expect(over(world.manager.keys.describeKey(key))).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });
});
