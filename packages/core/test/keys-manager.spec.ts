import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { codeOf } from './support/code-of.js';
import { Host } from './support/host.js';
import { KeysFleet, LEASE_MS, SELDOM } from './support/keys-fleet.js';
import { startWorld } from './support/world.js';

/** Heartbeats far apart, so that weeks go by quickly. */
const LONG_LEASE_MS = 6 * 3_600_000;
const DAY_MS = 86_400_000;

let fleet: KeysFleet;

beforeEach(() => {
  fleet = new KeysFleet();
});

afterEach(() => fleet.stop());

describe('a master key', () => {
  it('is there from first use on, as the default key, and counts what it wraps', async () => {
    const { keys, manager } = await fleet.start();
    await manager.createSecret('S', 'one');
    const { items } = await keys.listKeys();
    expect(items.map(({ id, aliases }) => [id, aliases])).toEqual([[(await fleet.provider.active()).id, ['default']]]);
    const { versions } = await keys.describeKey('default');
    expect(versions).toMatchObject([{ version: 1, state: 'active' }]);
    expect(versions[0]?.wraps).toBeGreaterThan(0);
  });

  it('rotates: the new version seals, the old one opens, and everything is sealed anew with another data key', async () => {
    const { keys, manager } = await fleet.start();
    await manager.createSecret('S', 'one');
    await manager.putSecretValue('S', 'two');
    const before = await fleet.shared.get('value/S:v1');
    await fleet.eventually(keys.rotateKey('default'));
    expect(await fleet.states()).toEqual(['1 decrypt-only', '2 active']);
    await fleet.eventually(keys.rewrap({ key: 'default' }));
    expect(await fleet.sealedUnder()).toEqual({ 'S:v1': 'default 2', 'S:v2': 'default 2' });
    const after = await fleet.shared.get('value/S:v1');
    expect(Buffer.from(after?.value ?? []).equals(Buffer.from(before?.value ?? []))).toBe(false);
    expect((await manager.getSecretValue('S', { versionId: 'v1' })).value).toBe('one');
    expect((await manager.getSecretValue('S')).value).toBe('two');
    // The store's own check value moved too, so that the old version can go.
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('nothing was thrown');
  });

  it('leaves everything where it is without rewrap, and seals one secret anew by its name', async () => {
    const { keys, manager } = await fleet.start();
    await manager.createSecret('A', 'one');
    await manager.createSecret('B', 'one');
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    expect(await fleet.sealedUnder()).toEqual({ 'A:v1': 'default 1', 'B:v1': 'default 1' });
    expect(await keys.rewrap({ secret: 'B' })).toMatchObject({ seen: 1, resealed: 1, failed: 0 });
    expect(await fleet.sealedUnder()).toEqual({ 'A:v1': 'default 1', 'B:v1': 'default 2' });
    expect(await keys.rewrap({ secret: 'B' })).toMatchObject({ seen: 1, resealed: 0 });
  });

  it('has its next version made at the wrap limit, without an error in between', async () => {
    await fleet.shared.open();
    const world = await startWorld({ clock: fleet.clock, store: fleet.shared, keys: fleet.shareKeys(), wrapLimit: 40 });
    const keys = world.runtime.own?.keys;
    if (keys === undefined) throw new Error('no manager');
    keys.events$.subscribe((event) => fleet.events.push(event));
    await world.runtime.startRotating();
    await world.manager.createSecret('S', 0);
    for (let count = 1; count < 60; count += 1) {
      await world.manager.putSecretValue('S', count);
      await fleet.clock.advance(LEASE_MS);
    }
    expect((await world.manager.getSecretValue('S')).value).toBe(59);
    const { versions } = await keys.describeKey('default');
    expect(versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    expect(versions[0]?.wraps).toBeGreaterThanOrEqual(40);
    expect(versions[0]?.wraps).toBeLessThanOrEqual(44);
    expect(fleet.events.map(({ type }) => type)).toContain('wrap-limit');
    await world.runtime.stopRotating();
    await world.runtime.close();
  });

  it('rotates where it is asked for, also in an instance that leaves rotations to others', async () => {
    await fleet.shared.open();
    const host = new Host(fleet.clock, fleet.shared);
    const world = await startWorld({
      clock: fleet.clock,
      host,
      keys: fleet.shareKeys(),
      rotate: false,
      policies: SELDOM,
    });
    await world.runtime.startRotating();
    await world.manager.createSecret('S', 'one');
    const { versions } = await fleet.eventually(world.manager.keys.rotateKey('default'));
    expect(versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    await world.runtime.stopRotating();
    await world.runtime.close();
  });

  it('stops sealing at the most that is safe, when the provider has no next version', async () => {
    await fleet.shared.open();
    const { make: _no, ...makesNone } = fleet.provider;
    const world = await startWorld({ clock: fleet.clock, store: fleet.shared, keys: makesNone, wrapLimit: 9 });
    await world.runtime.startRotating();
    await world.manager.createSecret('S', 0);
    // Two of the ten went to the first value and to the key of the policies.
    const puts: string[] = [];
    for (let count = 1; count < 15; count += 1) puts.push(await codeOf(world.manager.putSecretValue('S', count)));
    expect(puts.filter((code) => code === 'nothing was thrown')).toHaveLength(8);
    expect(puts.slice(8)).toEqual(Array.from({ length: 6 }, () => 'KEY_EXHAUSTED'));
    // What is sealed still opens.
    expect((await world.manager.getSecretValue('S')).value).toBe(8);
    await world.runtime.stopRotating();
    await world.runtime.close();
  });

  it('opens nothing while it is disabled, on any instance, and everything again once it is enabled', async () => {
    const { keys, manager } = await fleet.start(2);
    const { id } = await fleet.eventually(keys.createKey({ alias: 'billing' }));
    await manager.createSecret('S', 'one', { key: 'billing' });
    await manager.createSecret('Other', 'one');
    expect((await fleet.sealedUnder())['S:v1']).toBe(`${id} 1`);
    await keys.disable('billing');
    await fleet.clock.advance(1);
    for (const member of fleet.members) {
      expect(await codeOf(member.manager.getSecretValue('S'))).toBe('KEY_DISABLED');
      expect(await codeOf(member.manager.putSecretValue('S', 'two'))).toBe('KEY_INACTIVE');
      expect((await member.manager.getSecretValue('Other')).value).toBe('one');
    }
    await keys.enable('billing');
    await fleet.clock.advance(1);
    expect((await fleet.at(1).manager.getSecretValue('S')).value).toBe('one');
    await manager.putSecretValue('S', 'two');
  });

  it('moves a secret to another key', async () => {
    const { keys, manager } = await fleet.start();
    const { id } = await fleet.eventually(keys.createKey({ alias: 'billing', description: 'For invoices' }));
    await manager.createSecret('S', 'one');
    await manager.updateSecret('S', { key: 'billing' });
    await keys.rewrap({ secret: 'S' });
    await manager.putSecretValue('S', 'two');
    expect(await fleet.sealedUnder()).toEqual({ 'S:v1': `${id} 1`, 'S:v2': `${id} 1` });
    expect(await codeOf(manager.createSecret('T', 1, { key: 'nobody' }))).toBe('KEY_NOT_FOUND');
  });

  it('is called by aliases, which move, and one key is always the default one', async () => {
    const { keys } = await fleet.start();
    const made = await fleet.eventually(keys.createKey({ alias: 'a' }));
    expect(await codeOf(keys.createKey({ alias: 'a' }))).toBe('KEY_REQUEST_INVALID');
    await keys.setAlias('b', 'a');
    expect((await keys.describeKey('b')).id).toBe(made.id);
    await keys.setAlias('a', 'default');
    expect((await keys.describeKey('default')).aliases).toEqual(['default', 'a']);
    expect((await keys.describeKey(made.id)).aliases).toEqual(['b']);
    await keys.setAlias('b', null);
    expect(await codeOf(keys.describeKey('b'))).toBe('KEY_NOT_FOUND');
    expect(await codeOf(keys.setAlias('default', null))).toBe('KEY_REQUEST_INVALID');
    expect(await codeOf(keys.setAlias(made.id, 'default'))).toBe('KEY_REQUEST_INVALID');
    expect(await codeOf(keys.setAlias('no spaces', 'default'))).toBe('KEY_REQUEST_INVALID');
    expect(await codeOf(keys.describeKey('__proto__'))).toBe('KEY_NOT_FOUND');
  });

  it('comes page by page', async () => {
    const { keys } = await fleet.start();
    for (const alias of ['a', 'b', 'c', 'd']) await fleet.eventually(keys.createKey({ alias }));
    const ids: string[] = [];
    for (let after: string | undefined; ;) {
      const { items, next } = await keys.listKeys({ limit: 2, ...(after === undefined ? {} : { after }) });
      ids.push(...items.map(({ id }) => id));
      if (next === undefined) break;
      after = next;
    }
    expect(ids).toHaveLength(5);
    expect(ids).toEqual(ids.toSorted());
  });
});

describe('a new version of a master key', () => {
  it('is used by nobody before every instance has shown that it can open what it wraps', async () => {
    let isHidden = true;
    const { keys, manager } = await fleet.start(3, (place) =>
      place < 2
        ? fleet.shareKeys()
        : fleet.shareKeys({
            unwrap: (cmk, ...rest) =>
              fleet.provider.unwrap(isHidden && cmk.version === 2 ? { id: 'elsewhere', version: 2 } : cmk, ...rest),
          }),
    );
    await manager.createSecret('S', 'one');
    const late = fleet.at(2).id;
    const waiting = codeOf(keys.rotateKey('default', { deadline: LEASE_MS * 5 }));
    await fleet.until(() => fleet.at(0).host.holds === 1);
    expect(await fleet.eventually(waiting)).toBe('KEY_NOT_PUBLISHED');
    // A program whose last work this is does not end in the midst of it.
    expect(fleet.at(0).host.holds).toBe(0);
    expect(await fleet.states()).toEqual(['1 active', '2 created']);
    expect((await keys.describeKey('default')).versions[1]?.missing).toEqual([late]);
    expect(fleet.events).toContainEqual(expect.objectContaining({ type: 'missing-here' }));
    await manager.putSecretValue('S', 'two');
    expect(await fleet.sealedUnder()).toEqual({ 'S:v1': 'default 1', 'S:v2': 'default 1' });

    // Somebody gives it the key: nothing else needs to be done.
    isHidden = false;
    await fleet.until(async () => (await fleet.states()).includes('2 active'));
    await fleet.until(async () => (await fleet.sealedUnder())['S:v1'] === 'default 2');
    expect((await fleet.at(2).manager.getSecretValue('S')).value).toBe('two');
  });

  it('does not wait for an instance that died', async () => {
    const { keys } = await fleet.start(2);
    fleet.at(1).host.kill();
    fleet.at(1).host.isCutOff = true;
    await fleet.eventually(keys.rotateKey('default'));
    expect(await fleet.states()).toEqual(['1 decrypt-only', '2 active']);
  });

  it('is brought to its end by another instance when the one that made it dies', async () => {
    const { keys } = await fleet.start(3, (place) =>
      fleet.shareKeys(place === 2 ? { unwrap: fleet.provider.unwrap } : {}),
    );
    // Dies with the version made and entered, before anybody can have said a word.
    const { host } = fleet.at(0);
    host.beforeCommit = async (commit) => {
      if (!commit.writes.some(({ key }) => key.startsWith('cmk/open/publish'))) return;
      host.kill();
      host.isCutOff = true;
      await fleet.shared.commit(commit);
    };
    keys.rotateKey('default').catch(() => undefined);
    await fleet.until(async () => (await fleet.shared.list({ prefix: 'cmk/open/publish', limit: 1 })).length === 1);
    expect(fleet.events.map(({ type }) => type)).not.toContain('activated');
    await fleet.until(async () => {
      const { versions } = await fleet.at(1).keys.describeKey('default');
      return versions.map(({ state }) => state).join() === 'decrypt-only,active';
    });
  });

  it('never has a value sealed under the version before it once it is active, not by an instance that heard nothing either', async () => {
    const { keys, manager } = await fleet.start(2);
    await manager.createSecret('S', 'one');
    await fleet.at(1).manager.putSecretValue('S', 'two');
    // No hint reaches the second instance any more.
    fleet.at(1).runtime.own?.versions.keys.close();
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    await fleet.at(1).manager.putSecretValue('S', 'three');
    expect((await fleet.sealedUnder())['S:v3']).toBe('default 2');
  });

  it('is taken up where somebody added it to what the provider has, at the next start', async () => {
    await fleet.start(1);
    await fleet.provider.make?.((await fleet.provider.active()).id);
    await fleet.join(fleet.shareKeys());
    await fleet.until(async () => (await fleet.states()).join() === '1 decrypt-only,2 active');
  });

  it('cannot be had from a provider that makes none, and another key can be', async () => {
    const { keys, manager } = await fleet.start(1, () => {
      const { make: _none, destroy: _neither, ...rest } = fleet.shareKeys();
      return rest;
    });
    await manager.createSecret('S', 'one');
    expect(await codeOf(keys.rotateKey('default'))).toBe('KEY_UNSUPPORTED');
    expect(await codeOf(keys.createKey())).toBe('KEY_UNSUPPORTED');
    const made = await fleet.provider.make?.();
    const { id } = await fleet.eventually(keys.createKey({ id: made?.id ?? '', alias: 'next' }));
    await keys.setAlias('default', id);
    await fleet.eventually(keys.rewrap('all'));
    expect(await fleet.sealedUnder()).toEqual({ 'S:v1': `${id} 1` });
  });
});

describe('the destruction of a master key', () => {
  beforeEach(() => {
    fleet = new KeysFleet(LONG_LEASE_MS);
  });

  it('waits for its recovery window, is carried out by whoever lives, and shreds what was sealed', async () => {
    const { keys, manager } = await fleet.start(2);
    const { id } = await fleet.eventually(keys.createKey({ alias: 'doomed' }));
    await manager.createSecret('S', 'one', { key: 'doomed' });
    await manager.createSecret('Other', 'one');
    expect(await codeOf(keys.scheduleDestruction('doomed'))).toBe('KEY_IN_USE');
    await keys.scheduleDestruction('doomed', { shred: true, recoveryWindow: '7d' });
    await fleet.clock.advance(1);
    expect(await codeOf(fleet.at(1).manager.getSecretValue('S'))).toBe('KEY_DISABLED');
    fleet.at(0).host.kill();
    fleet.at(0).host.isCutOff = true;
    await fleet.clock.advance(7 * DAY_MS - LONG_LEASE_MS);
    expect((await fleet.at(1).keys.describeKey('doomed')).versions[0]?.state).toBe('disabled');
    await fleet.clock.advance(LONG_LEASE_MS * 2);
    await fleet.until(async () => (await fleet.at(1).keys.describeKey('doomed')).versions[0]?.state === 'destroyed');
    expect(await codeOf(fleet.at(1).manager.getSecretValue('S'))).toBe('KEY_DESTROYED');
    expect((await fleet.at(1).manager.getSecretValue('Other')).value).toBe('one');
    expect((await fleet.provider.list?.())?.some((cmk) => cmk.id === id)).toBe(false);
    expect(fleet.events).toContainEqual(
      expect.objectContaining({ type: 'destroyed', cmk: { id, version: 1 }, byProvider: true }),
    );
  });

  it('can be called off until then', async () => {
    const { keys, manager } = await fleet.start();
    await fleet.eventually(keys.createKey({ alias: 'doomed' }));
    await manager.createSecret('S', 'one', { key: 'doomed' });
    await keys.scheduleDestruction('doomed', { shred: true, recoveryWindow: '7d' });
    await fleet.clock.advance(6 * DAY_MS);
    await keys.cancelDestruction('doomed');
    await fleet.clock.advance(30 * DAY_MS);
    expect((await manager.getSecretValue('S')).value).toBe('one');
    expect(await codeOf(keys.cancelDestruction('doomed'))).toBe('KEY_REQUEST_INVALID');
  });

  it('is refused for what is needed, and for a window out of range', async () => {
    const { keys } = await fleet.start();
    expect(await codeOf(keys.scheduleDestruction('default'))).toBe('KEY_IN_USE');
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('KEY_IN_USE');
    expect(await codeOf(keys.scheduleDestruction('default', { version: 7 }))).toBe('KEY_NOT_FOUND');
    expect(await codeOf(keys.disable('default'))).toBe('KEY_IN_USE');
    await fleet.eventually(keys.createKey({ alias: 'other' }));
    for (const recoveryWindow of ['6d', '31d', 0, Number.NaN] as const)
      expect(await codeOf(keys.scheduleDestruction('other', { recoveryWindow }))).toBe('KEY_REQUEST_INVALID');
  });

  it('of an old version goes through once nothing is left under it, and is held back as long as something is', async () => {
    const { keys, manager } = await fleet.start();
    await manager.createSecret('S', 'one');
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('KEY_IN_USE');
    const store = fleet.at(0).runtime.own?.versions.store ?? fleet.shared;
    const old = await store.get('value/S:v1');
    await fleet.eventually(keys.rewrap({ key: 'default' }));
    await keys.scheduleDestruction('default', { version: 1, recoveryWindow: '7d' });
    // As a restored backup may bring one back.
    await store.commit({ conditions: [], writes: [{ key: 'value/S:old', value: old?.value ?? null }] });
    await fleet.clock.advance(7 * DAY_MS + LONG_LEASE_MS);
    expect(fleet.events).toContainEqual(expect.objectContaining({ type: 'destruction-held', inUse: ['S:old'] }));
    expect(await fleet.states()).toEqual(['1 disabled', '2 active']);
    await store.commit({ conditions: [], writes: [{ key: 'value/S:old', value: null }] });
    await fleet.clock.advance(DAY_MS + LONG_LEASE_MS);
    await fleet.until(async () => (await fleet.states()).includes('1 destroyed'));
    expect((await manager.getSecretValue('S')).value).toBe('one');
  });
});
