import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  ephemeralKeys,
  isSecretsError,
  type KeyEvent,
  type KeyManager,
  type KeyProvider,
  memoryStore,
  type StoreDriver,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Host } from './support/host.js';
import { startWorld, type World } from './support/world.js';

const LEASE_MS = 9_000;
/** Heartbeats far apart, so that weeks go by quickly. */
const LONG_LEASE_MS = 6 * 3_600_000;
/** Nobody sets a policy here. */
const SELDOM = { refreshIntervalMs: 300 * 86_400_000, maxStalenessMs: 900 * 86_400_000 };
const DAY_MS = 86_400_000;

interface Member extends World {
  readonly host: Host;
  readonly id: string;
  readonly keys: KeyManager;
}

let members: Member[] = [];
let clock: SimulatedClock;
let shared: StoreDriver;
let provider: KeyProvider;
let events: KeyEvent[];
let leaseMs = LEASE_MS;

/** The same keys for every member; `without` is what it cannot do, or sees of them. */
function shareKeys(without: Partial<KeyProvider> = {}): KeyProvider {
  return { ...provider, close: async () => undefined, ...without };
}

async function start(size = 1, keys: (place: number) => KeyProvider = () => shareKeys()): Promise<Member> {
  clock = new SimulatedClock();
  shared = memoryStore();
  provider = ephemeralKeys();
  events = [];
  await shared.open();
  for (let place = 0; place < size; place += 1) await join(keys(place));
  return at(0);
}

async function join(keys: KeyProvider = shareKeys()): Promise<Member> {
  const host = new Host(clock, shared);
  const place = members.length;
  let ids = 0;
  const world = await startWorld({
    clock,
    host,
    keys,
    ids: { next: () => `p${place}-${(ids += 1)}` },
    instance: { leaseMs, processes: unknownProcesses },
    policies: SELDOM,
  });
  const { own } = world.runtime;
  if (own === undefined) throw new Error('no manager');
  own.keys.events$.subscribe((event) => events.push(event));
  await world.runtime.startRotating();
  const member = { ...world, host, id: own.instance.id, keys: own.keys };
  members.push(member);
  return member;
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
  leaseMs = LEASE_MS;
});

/** Moves time on until the work is done, and fails when that takes more than so many leases. */
async function eventually<T>(work: Promise<T>, leases = 20): Promise<T> {
  let isDone = false;
  const done = work.finally(() => (isDone = true));
  done.catch(() => undefined);
  for (let step = 0; step < leases * 10 && !isDone; step += 1) await clock.advance(leaseMs / 10);
  if (!isDone) throw new Error(`not done after ${leases} leases`);
  return done;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let step = 0; step < 200; step += 1) {
    if (await holds()) return;
    await clock.advance(leaseMs / 10);
  }
  throw new Error('it never came about');
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing was thrown';
  } catch (error) {
    if (isSecretsError(error)) return error.code;
    throw error;
  }
}

async function states(key = 'default'): Promise<string[]> {
  const { versions } = await at(0).keys.describeKey(key);
  return versions.map(({ version, state }) => `${version} ${state}`);
}

/** The version of the master key in the header of each stored envelope. */
async function sealedUnder(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { key, value } of await shared.list({ prefix: 'value/', limit: 1000 })) {
    const bytes = Buffer.from(value);
    const end = 7 + (bytes[6] ?? 0);
    const id = bytes.toString('latin1', 7, end);
    const isDefault = id === (await provider.active()).id;
    found[key.slice('value/'.length)] = `${isDefault ? 'default' : id} ${bytes.readUInt32BE(end)}`;
  }
  return found;
}

describe('a master key', () => {
  it('is there from first use on, as the default key, and counts what it wraps', async () => {
    const { keys, manager } = await start();
    await manager.createSecret('S', 'one');
    const { items } = await keys.listKeys();
    expect(items.map(({ id, aliases }) => [id, aliases])).toEqual([[(await provider.active()).id, ['default']]]);
    const { versions } = await keys.describeKey('default');
    expect(versions).toMatchObject([{ version: 1, state: 'active' }]);
    expect(versions[0]?.wraps).toBeGreaterThan(0);
  });

  it('rotates: the new version seals, the old one opens, and everything is sealed anew with another data key', async () => {
    const { keys, manager } = await start();
    await manager.createSecret('S', 'one');
    await manager.putSecretValue('S', 'two');
    const before = await shared.get('value/S:v1');
    await eventually(keys.rotateKey('default'));
    expect(await states()).toEqual(['1 decrypt-only', '2 active']);
    await eventually(keys.rewrap({ key: 'default' }));
    expect(await sealedUnder()).toEqual({ 'S:v1': 'default 2', 'S:v2': 'default 2' });
    const after = await shared.get('value/S:v1');
    expect(Buffer.from(after?.value ?? []).equals(Buffer.from(before?.value ?? []))).toBe(false);
    expect((await manager.getSecretValue('S', { versionId: 'v1' })).value).toBe('one');
    expect((await manager.getSecretValue('S')).value).toBe('two');
    // The store's own check value moved too, so that the old version can go.
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('nothing was thrown');
  });

  it('leaves everything where it is without rewrap, and seals one secret anew by its name', async () => {
    const { keys, manager } = await start();
    await manager.createSecret('A', 'one');
    await manager.createSecret('B', 'one');
    await eventually(keys.rotateKey('default', { rewrap: false }));
    expect(await sealedUnder()).toEqual({ 'A:v1': 'default 1', 'B:v1': 'default 1' });
    expect(await keys.rewrap({ secret: 'B' })).toMatchObject({ seen: 1, resealed: 1, failed: 0 });
    expect(await sealedUnder()).toEqual({ 'A:v1': 'default 1', 'B:v1': 'default 2' });
    expect(await keys.rewrap({ secret: 'B' })).toMatchObject({ seen: 1, resealed: 0 });
  });

  it('has its next version made at the wrap limit, without an error in between', async () => {
    clock = new SimulatedClock();
    provider = ephemeralKeys();
    shared = memoryStore();
    await shared.open();
    events = [];
    const world = await startWorld({ clock, store: shared, keys: shareKeys(), wrapLimit: 40 });
    const keys = world.runtime.own?.keys;
    if (keys === undefined) throw new Error('no manager');
    keys.events$.subscribe((event) => events.push(event));
    await world.runtime.startRotating();
    await world.manager.createSecret('S', 0);
    for (let count = 1; count < 60; count += 1) {
      await world.manager.putSecretValue('S', count);
      await clock.advance(LEASE_MS);
    }
    expect((await world.manager.getSecretValue('S')).value).toBe(59);
    const { versions } = await keys.describeKey('default');
    expect(versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    expect(versions[0]?.wraps).toBeGreaterThanOrEqual(40);
    expect(versions[0]?.wraps).toBeLessThanOrEqual(44);
    expect(events.map(({ type }) => type)).toContain('wrap-limit');
    await world.runtime.stopRotating();
    await world.runtime.close();
  });

  it('rotates where it is asked for, also in an instance that leaves rotations to others', async () => {
    clock = new SimulatedClock();
    provider = ephemeralKeys();
    shared = memoryStore();
    await shared.open();
    const host = new Host(clock, shared);
    const world = await startWorld({ clock, host, keys: shareKeys(), rotate: false, policies: SELDOM });
    await world.runtime.startRotating();
    await world.manager.createSecret('S', 'one');
    const { versions } = await eventually(world.manager.keys.rotateKey('default'));
    expect(versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    await world.runtime.stopRotating();
    await world.runtime.close();
  });

  it('stops sealing at the most that is safe, when the provider has no next version', async () => {
    clock = new SimulatedClock();
    provider = ephemeralKeys();
    shared = memoryStore();
    await shared.open();
    const { make: _no, ...makesNone } = provider;
    const world = await startWorld({ clock, store: shared, keys: makesNone, wrapLimit: 9 });
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
    const { keys, manager } = await start(2);
    const { id } = await eventually(keys.createKey({ alias: 'billing' }));
    await manager.createSecret('S', 'one', { key: 'billing' });
    await manager.createSecret('Other', 'one');
    expect((await sealedUnder())['S:v1']).toBe(`${id} 1`);
    await keys.disable('billing');
    await clock.advance(1);
    for (const member of members) {
      expect(await codeOf(member.manager.getSecretValue('S'))).toBe('KEY_DISABLED');
      expect(await codeOf(member.manager.putSecretValue('S', 'two'))).toBe('KEY_INACTIVE');
      expect((await member.manager.getSecretValue('Other')).value).toBe('one');
    }
    await keys.enable('billing');
    await clock.advance(1);
    expect((await at(1).manager.getSecretValue('S')).value).toBe('one');
    await manager.putSecretValue('S', 'two');
  });

  it('moves a secret to another key', async () => {
    const { keys, manager } = await start();
    const { id } = await eventually(keys.createKey({ alias: 'billing', description: 'For invoices' }));
    await manager.createSecret('S', 'one');
    await manager.updateSecret('S', { key: 'billing' });
    await keys.rewrap({ secret: 'S' });
    await manager.putSecretValue('S', 'two');
    expect(await sealedUnder()).toEqual({ 'S:v1': `${id} 1`, 'S:v2': `${id} 1` });
    expect(await codeOf(manager.createSecret('T', 1, { key: 'nobody' }))).toBe('KEY_NOT_FOUND');
  });

  it('is called by aliases, which move, and one key is always the default one', async () => {
    const { keys } = await start();
    const made = await eventually(keys.createKey({ alias: 'a' }));
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
    const { keys } = await start();
    for (const alias of ['a', 'b', 'c', 'd']) await eventually(keys.createKey({ alias }));
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
    const { keys, manager } = await start(3, (place) =>
      place < 2
        ? shareKeys()
        : shareKeys({
            unwrap: (cmk, ...rest) =>
              provider.unwrap(isHidden && cmk.version === 2 ? { id: 'elsewhere', version: 2 } : cmk, ...rest),
          }),
    );
    await manager.createSecret('S', 'one');
    const late = at(2).id;
    const waiting = codeOf(keys.rotateKey('default', { deadline: LEASE_MS * 5 }));
    expect(await eventually(waiting)).toBe('KEY_NOT_PUBLISHED');
    expect(await states()).toEqual(['1 active', '2 created']);
    expect((await keys.describeKey('default')).versions[1]?.missing).toEqual([late]);
    expect(events).toContainEqual(expect.objectContaining({ type: 'missing-here' }));
    await manager.putSecretValue('S', 'two');
    expect(await sealedUnder()).toEqual({ 'S:v1': 'default 1', 'S:v2': 'default 1' });

    // Somebody gives it the key: nothing else needs to be done.
    isHidden = false;
    await until(async () => (await states()).includes('2 active'));
    await until(async () => (await sealedUnder())['S:v1'] === 'default 2');
    expect((await at(2).manager.getSecretValue('S')).value).toBe('two');
  });

  it('does not wait for an instance that died', async () => {
    const { keys } = await start(2);
    at(1).host.kill();
    at(1).host.isCutOff = true;
    await eventually(keys.rotateKey('default'));
    expect(await states()).toEqual(['1 decrypt-only', '2 active']);
  });

  it('is brought to its end by another instance when the one that made it dies', async () => {
    const { keys } = await start(3, (place) => shareKeys(place === 2 ? { unwrap: provider.unwrap } : {}));
    // Dies with the version made and entered, before anybody can have said a word.
    const { host } = at(0);
    host.beforeCommit = async (commit) => {
      if (!commit.writes.some(({ key }) => key.startsWith('cmk/open/publish'))) return;
      host.kill();
      host.isCutOff = true;
      await shared.commit(commit);
    };
    keys.rotateKey('default').catch(() => undefined);
    await until(async () => (await shared.list({ prefix: 'cmk/open/publish', limit: 1 })).length === 1);
    expect(events.map(({ type }) => type)).not.toContain('activated');
    await until(async () => {
      const { versions } = await at(1).keys.describeKey('default');
      return versions.map(({ state }) => state).join() === 'decrypt-only,active';
    });
  });

  it('never has a value sealed under the version before it once it is active, not by an instance that heard nothing either', async () => {
    const { keys, manager } = await start(2);
    await manager.createSecret('S', 'one');
    await at(1).manager.putSecretValue('S', 'two');
    // No hint reaches the second instance any more.
    at(1).runtime.own?.versions.keys.close();
    await eventually(keys.rotateKey('default', { rewrap: false }));
    await at(1).manager.putSecretValue('S', 'three');
    expect((await sealedUnder())['S:v3']).toBe('default 2');
  });

  it('is taken up where somebody added it to what the provider has, at the next start', async () => {
    await start(1);
    await provider.make?.((await provider.active()).id);
    await join(shareKeys());
    await until(async () => (await states()).join() === '1 decrypt-only,2 active');
  });

  it('cannot be had from a provider that makes none, and another key can be', async () => {
    const { keys, manager } = await start(1, () => {
      const { make: _none, destroy: _neither, ...rest } = shareKeys();
      return rest;
    });
    await manager.createSecret('S', 'one');
    expect(await codeOf(keys.rotateKey('default'))).toBe('KEY_UNSUPPORTED');
    expect(await codeOf(keys.createKey())).toBe('KEY_UNSUPPORTED');
    const made = await provider.make?.();
    const { id } = await eventually(keys.createKey({ id: made?.id ?? '', alias: 'next' }));
    await keys.setAlias('default', id);
    await eventually(keys.rewrap('all'));
    expect(await sealedUnder()).toEqual({ 'S:v1': `${id} 1` });
  });
});

describe('the destruction of a master key', () => {
  beforeEach(() => {
    leaseMs = LONG_LEASE_MS;
  });

  it('waits for its recovery window, is carried out by whoever lives, and shreds what was sealed', async () => {
    const { keys, manager } = await start(2);
    const { id } = await eventually(keys.createKey({ alias: 'doomed' }));
    await manager.createSecret('S', 'one', { key: 'doomed' });
    await manager.createSecret('Other', 'one');
    expect(await codeOf(keys.scheduleDestruction('doomed'))).toBe('KEY_IN_USE');
    await keys.scheduleDestruction('doomed', { shred: true, recoveryWindow: '7d' });
    await clock.advance(1);
    expect(await codeOf(at(1).manager.getSecretValue('S'))).toBe('KEY_DISABLED');
    at(0).host.kill();
    at(0).host.isCutOff = true;
    await clock.advance(7 * DAY_MS - LONG_LEASE_MS);
    expect((await at(1).keys.describeKey('doomed')).versions[0]?.state).toBe('disabled');
    await clock.advance(LONG_LEASE_MS * 2);
    await until(async () => (await at(1).keys.describeKey('doomed')).versions[0]?.state === 'destroyed');
    expect(await codeOf(at(1).manager.getSecretValue('S'))).toBe('KEY_DESTROYED');
    expect((await at(1).manager.getSecretValue('Other')).value).toBe('one');
    expect((await provider.list?.())?.some((cmk) => cmk.id === id)).toBe(false);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'destroyed', cmk: { id, version: 1 }, byProvider: true }),
    );
  });

  it('can be called off until then', async () => {
    const { keys, manager } = await start();
    await eventually(keys.createKey({ alias: 'doomed' }));
    await manager.createSecret('S', 'one', { key: 'doomed' });
    await keys.scheduleDestruction('doomed', { shred: true, recoveryWindow: '7d' });
    await clock.advance(6 * DAY_MS);
    await keys.cancelDestruction('doomed');
    await clock.advance(30 * DAY_MS);
    expect((await manager.getSecretValue('S')).value).toBe('one');
    expect(await codeOf(keys.cancelDestruction('doomed'))).toBe('KEY_REQUEST_INVALID');
  });

  it('is refused for what is needed, and for a window out of range', async () => {
    const { keys } = await start();
    expect(await codeOf(keys.scheduleDestruction('default'))).toBe('KEY_IN_USE');
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('KEY_IN_USE');
    expect(await codeOf(keys.scheduleDestruction('default', { version: 7 }))).toBe('KEY_NOT_FOUND');
    expect(await codeOf(keys.disable('default'))).toBe('KEY_IN_USE');
    await eventually(keys.createKey({ alias: 'other' }));
    for (const recoveryWindow of ['6d', '31d', 0, Number.NaN] as const)
      expect(await codeOf(keys.scheduleDestruction('other', { recoveryWindow }))).toBe('KEY_REQUEST_INVALID');
  });

  it('of an old version goes through once nothing is left under it, and is held back as long as something is', async () => {
    const { keys, manager } = await start();
    await manager.createSecret('S', 'one');
    await eventually(keys.rotateKey('default', { rewrap: false }));
    expect(await codeOf(keys.scheduleDestruction('default', { version: 1 }))).toBe('KEY_IN_USE');
    const store = at(0).runtime.own?.versions.store ?? shared;
    const old = await store.get('value/S:v1');
    await eventually(keys.rewrap({ key: 'default' }));
    await keys.scheduleDestruction('default', { version: 1, recoveryWindow: '7d' });
    // As a restored backup may bring one back.
    await store.commit({ conditions: [], writes: [{ key: 'value/S:old', value: old?.value ?? null }] });
    await clock.advance(7 * DAY_MS + LONG_LEASE_MS);
    expect(events).toContainEqual(expect.objectContaining({ type: 'destruction-held', inUse: ['S:old'] }));
    expect(await states()).toEqual(['1 disabled', '2 active']);
    await store.commit({ conditions: [], writes: [{ key: 'value/S:old', value: null }] });
    await clock.advance(DAY_MS + LONG_LEASE_MS);
    await until(async () => (await states()).includes('1 destroyed'));
    expect((await manager.getSecretValue('S')).value).toBe('one');
  });
});

describe('sealing anew', () => {
  it('goes on in another instance where the one that died had got to, and repeats and leaves out nothing', async () => {
    const { keys, manager } = await start(2);
    for (let count = 0; count < 130; count += 1) await manager.createSecret(`S${count}`, count);
    await eventually(keys.rotateKey('default', { rewrap: false }));
    const { host } = at(0);
    let pages = 0;
    host.beforeCommit = ({ writes }) => {
      if (!writes.some(({ key }) => key.startsWith('cmk/open/rewrap'))) return;
      pages += 1;
      if (pages < 3) return;
      host.kill();
      host.isCutOff = true;
    };
    keys.rewrap({ key: 'default' }).catch(() => undefined);
    await until(() => pages >= 3);
    expect(Object.values(await sealedUnder()).filter((under) => under === 'default 1').length).toBeGreaterThan(0);
    const ended = new Promise<KeyEvent>((resolve) =>
      at(1).keys.events$.subscribe((event) => event.type === 'rewrapped' && resolve(event)),
    );
    expect(await eventually(ended)).toMatchObject({ seen: 130, resealed: 130, failed: 0 });
    expect(new Set(Object.values(await sealedUnder()))).toEqual(new Set(['default 2']));
    expect((await at(1).manager.getSecretValue('S77')).value).toBe(77);
  });

  it('leaves a value that does not open as it is, names it, and goes on', async () => {
    const { keys, manager } = await start();
    for (const name of ['A', 'B', 'C']) await manager.createSecret(name, `value of ${name}`);
    const entry = await shared.get('value/B:v1');
    const broken = Buffer.from(entry?.value ?? []);
    broken.writeUInt8(broken.readUInt8(broken.length - 1) ^ 1, broken.length - 1);
    await shared.commit({ conditions: [], writes: [{ key: 'value/B:v1', value: broken }] });
    await eventually(keys.rotateKey('default', { rewrap: false }));
    const report = await eventually(keys.rewrap('all'));
    expect(report).toEqual({ scope: '*', seen: 3, resealed: 2, failed: 1, failures: ['B:v1'] });
    expect(Buffer.from((await shared.get('value/B:v1'))?.value ?? []).equals(broken)).toBe(true);
    expect((await manager.getSecretValue('C')).value).toBe('value of C');
  });

  it('does not bring a value back that was removed meanwhile', async () => {
    const { keys, manager } = await start();
    for (let count = 0; count < 20; count += 1) await manager.createSecret(`S${count}`, count);
    await eventually(keys.rotateKey('default', { rewrap: false }));
    let isRemoved = false;
    at(0).host.beforeCommit = async ({ writes }) => {
      if (isRemoved || !writes.some(({ key }) => key.startsWith('value/'))) return;
      isRemoved = true;
      await shared.commit({ conditions: [], writes: [{ key: 'value/S7:v1', value: null }] });
    };
    const report = await eventually(keys.rewrap({ key: 'default' }));
    expect(await shared.get('value/S7:v1')).toBeUndefined();
    expect(report).toMatchObject({ seen: 19, resealed: 19, failed: 0 });
  });
});
