import { afterEach, describe, expect, it } from '@jest/globals';
import {
  cryptoRandomness,
  ephemeralKeys,
  type KeyMoveReport,
  type KeyProvider,
  movingKeys,
} from '@nestjs-secrets/core';
import { BACKUP_KEY_ENTRY, openOwnKey } from '../src/doors/own-keys.js';
import { codeOf } from './support/code-of.js';
import { KeysFleet, LEASE_MS, type Member } from './support/keys-fleet.js';

let fleet = new KeysFleet();
let from: KeyProvider;
let to: KeyProvider;

async function begin(): Promise<void> {
  fleet = new KeysFleet();
  await fleet.shared.open();
  [from, to] = [ephemeralKeys(), ephemeralKeys()];
  await from.open();
  await to.open();
}

/** A provider that every member has, and none of them closes. */
function kept(provider: KeyProvider): KeyProvider {
  return { ...bound(provider), open: async () => undefined, close: async () => undefined };
}

function bound(provider: KeyProvider): KeyProvider {
  return {
    name: provider.name,
    open: () => provider.open(),
    close: () => provider.close(),
    active: () => provider.active(),
    wrap: (...parameters) => provider.wrap(...parameters),
    unwrap: (...parameters) => provider.unwrap(...parameters),
    list: async () => (await provider.list?.()) ?? [],
    make: async (id) => provider.make?.(id) ?? Promise.reject(new Error('it makes none')),
  };
}

const both = (): KeyProvider => movingKeys({ from: kept(from), to: kept(to) });

afterEach(() => fleet.stop());

/** What the store knows of keys themselves, and so names them. */
const ABOUT_KEYS = /^(cmk|cmkack|integrity\/copy\/cmk|integrity\/node)\/|^integrity\/top$/;

/** Every entry of the store that names a key of this provider in the header of an envelope, however it is kept. */
async function namedIn(provider: KeyProvider): Promise<string[]> {
  const ids = new Set(((await provider.list?.()) ?? []).map(({ id }) => id));
  const found: string[] = [];
  for (const { key, value } of await fleet.shared.list({ prefix: '', limit: 1000 })) {
    if (ABOUT_KEYS.test(key)) continue;
    const raw = Buffer.from(value).toString('latin1');
    const inJson = /"keyCheck":"([^"]+)"/.exec(raw)?.[1];
    const text = raw + (inJson === undefined ? '' : Buffer.from(inJson, 'base64').toString('latin1'));
    if ([...ids].some((id) => text.includes(id))) found.push(key);
  }
  return found;
}

async function secrets({ manager, keys }: Member): Promise<void> {
  await manager.createSecret('Plain', 'one');
  await manager.putSecretValue('Plain', 'two');
  await fleet.eventually(keys.createKey({ alias: 'billing' }));
  await manager.createSecret('Invoices', 'three', { key: 'billing' });
  await manager.createSecret('Deleted', 'four');
  await manager.deleteSecret('Deleted', { recoveryWindow: '7d' });
}

/** A store as it is before anybody thinks of another provider. */
async function populated(also: (alone: Member) => Promise<unknown> = async () => undefined): Promise<void> {
  await begin();
  const alone = await fleet.join(kept(from));
  await secrets(alone);
  await also(alone);
  await fleet.leave(alone);
}

describe('moving from one key provider to another', () => {
  it('seals everything there is under the new one, which opens the store alone', async () => {
    await populated();
    const one = await fleet.join(both());
    expect(await namedIn(to)).toEqual([]);
    const before = await namedIn(from);
    expect(before).toEqual(
      expect.arrayContaining(['store', 'integrity/store', 'integrity/key', 'integrity/key-copy', 'policy/key']),
    );
    const { keys, left, rewrapped } = await fleet.eventually(one.manager.keys.move());
    expect(left).toEqual([]);
    expect(rewrapped).toMatchObject({ failed: 0, resealed: 4 });
    expect(keys).toHaveLength(2);
    expect((await from.list?.())?.map(({ id }) => id).toSorted()).toEqual(keys.map((pair) => pair.from).toSorted());
    expect(await namedIn(from)).toEqual([]);
    expect((await namedIn(to)).toSorted()).toEqual(before.toSorted());
    const billing = await one.keys.describeKey('billing');
    expect(keys).toContainEqual({ from: expect.any(String), to: billing.id });
    const wasBilling = keys.find((pair) => pair.to === billing.id)?.from ?? '';
    expect(await one.keys.describeKey(wasBilling)).toMatchObject({ movedTo: billing.id, aliases: [] });
    // Who calls the old key by its id is taken to the new one, and a rotation of the old one is refused.
    await one.manager.createSecret('Late', 'five', { key: wasBilling });
    expect(await namedIn(from)).toEqual(['secret/Late']);
    expect(await codeOf(one.keys.rotateKey(wasBilling))).toBe('KEY_REQUEST_INVALID');
    // Said again, it says the same.
    expect(await fleet.eventually(one.manager.keys.move())).toMatchObject({ keys, left: [] });
    expect(await namedIn(from)).toEqual([]);
    await fleet.leave(one);

    const later = await fleet.join(kept(to));
    expect((await later.manager.getSecretValue('Plain')).value).toBe('two');
    expect((await later.manager.getSecretValue('Plain', { versionId: 'v1' })).value).toBe('one');
    expect((await later.manager.getSecretValue('Invoices')).value).toBe('three');
    await later.manager.restoreSecret('Deleted');
    expect((await later.manager.getSecretValue('Deleted')).value).toBe('four');
    await later.manager.putSecretValue('Invoices', 'six');
    await fleet.eventually(later.keys.rotateKey('default'));
    expect((await later.runtime.own?.integrity?.verifyStore())?.findings).toEqual([]);
  });

  it('seals nothing under the new one before every instance has it', async () => {
    await begin();
    const old = await fleet.join(kept(from));
    await secrets(old);
    const one = await fleet.join(both());
    expect(await fleet.eventually(codeOf(one.keys.move({ deadline: LEASE_MS * 3 })))).toBe('KEY_NOT_PUBLISHED');
    await one.manager.putSecretValue('Plain', 'three');
    // The proof of the new key apart, which is no value.
    expect(await namedIn(to)).toEqual([]);
    expect((await old.manager.getSecretValue('Plain')).value).toBe('three');
    // However long that takes, the old key can do what it could.
    const rotated = await fleet.eventually(one.keys.rotateKey('default'));
    expect(rotated.versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    await old.manager.putSecretValue('Plain', 'four');
    await fleet.leave(old);
    await fleet.join(both());
    expect((await fleet.eventually(one.keys.move())).left).toEqual([]);
    expect(await namedIn(from)).toEqual([]);
  });

  it('fails no read and no write of any instance meanwhile', async () => {
    await populated();
    const [one, other] = [await fleet.join(both()), await fleet.join(both())];
    for (let count = 0; count < 60; count += 1) await one.manager.createSecret(`many/${count}`, count);
    const failed: string[] = [];
    let isMoving = true;
    let written = 0;
    const work = async (member: Member, secret: string): Promise<void> => {
      for (let count = 0; isMoving; count += 1) {
        try {
          await member.manager.putSecretValue(secret, count);
          const { value } = await member.manager.getSecretValue(secret);
          if (value !== count) failed.push(`${secret} is ${String(value)}, not ${count}`);
          written += 1;
        } catch (error) {
          failed.push(String(error));
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await one.manager.createSecret('Own', 0, { key: 'billing' });
    const working = [work(one, 'many/1'), work(other, 'many/2'), work(other, 'Own')];
    const report = await fleet.eventually(one.keys.move());
    isMoving = false;
    await Promise.all(working);
    expect(failed).toEqual([]);
    expect(written).toBeGreaterThan(20);
    expect(report.left).toEqual([]);
    expect(await namedIn(from)).toEqual([]);
  });

  it('leaves no key of the doors behind that was made in that very moment', async () => {
    await populated();
    const [one, other] = [await fleet.join(both()), await fleet.join(both())];
    const versions = other.runtime.own?.versions;
    if (versions === undefined) throw new Error('no manager');
    let moving: Promise<KeyMoveReport> | undefined;
    let seals = 0;
    other.host.beforeCommit = async ({ writes }) => {
      if (!writes.some(({ key }) => key === BACKUP_KEY_ENTRY)) return;
      seals += 1;
      moving ??= one.keys.move();
      await moving;
    };
    const key = await fleet.eventually(openOwnKey(versions, BACKUP_KEY_ENTRY, cryptoRandomness));
    expect((await moving)?.left).toEqual([]);
    expect(seals).toBe(2);
    expect(await namedIn(from)).toEqual([]);
    expect(await namedIn(to)).toContain(BACKUP_KEY_ENTRY);
    for (const member of fleet.members) await fleet.leave(member);
    const alone = (await fleet.join(kept(to))).runtime.own?.versions;
    if (alone === undefined) throw new Error('no manager');
    expect((await openOwnKey(alone, BACKUP_KEY_ENTRY, cryptoRandomness)).equals(key)).toBe(true);
  });

  it('goes on in another instance, wherever the first one dies', async () => {
    const effects = async (dieAt: number): Promise<number> => {
      await populated();
      const [first, second] = [await fleet.join(both()), await fleet.join(both())];
      let commits = 0;
      first.host.beforeCommit = () => {
        commits += 1;
        if (commits !== dieAt) return;
        first.host.isCutOff = true;
        first.host.kill();
        throw new Error('dead');
      };
      const moving = first.keys.move();
      moving.catch(() => undefined);
      if (dieAt === 0) await fleet.eventually(moving);
      else for (let step = 0; step < 40 && !first.host.isCutOff; step += 1) await fleet.clock.advance(LEASE_MS / 10);
      const report: KeyMoveReport = await fleet.eventually(second.keys.move(), 60);
      expect([dieAt, report.left, await namedIn(from)]).toEqual([dieAt, [], []]);
      await fleet.stop();
      const alone = await fleet.join(kept(to));
      expect((await alone.manager.getSecretValue('Invoices')).value).toBe('three');
      expect((await alone.manager.getSecretValue('Plain')).value).toBe('two');
      await fleet.leave(alone);
      return commits;
    };
    const count = await effects(0);
    expect(count).toBeGreaterThan(8);
    for (let dieAt = 1; dieAt <= count; dieAt += 1) await effects(dieAt);
  }, 400_000);

  it('says what is left: what a disabled version seals stays where it is', async () => {
    let id = '';
    await populated(async ({ keys }) => {
      ({ id } = await fleet.eventually(keys.rotateKey('billing', { rewrap: false })));
      await keys.disable('billing', 1);
    });
    const one = await fleet.join(both());
    const report = await fleet.eventually(one.keys.move());
    expect(report.left).toEqual(['Invoices:v1']);
    expect(report.rewrapped).toMatchObject({ failed: 1, failures: ['Invoices:v1'] });
    await one.keys.enable(id, 1);
    expect((await fleet.eventually(one.keys.move())).left).toEqual([]);
    expect((await one.manager.getSecretValue('Invoices')).value).toBe('three');
  });

  it('needs to be told which keys take over where the new provider makes none', async () => {
    await populated();
    const { make: _none, ...named } = kept(to);
    const second = (await to.make?.())?.id ?? '';
    const one = await fleet.join(movingKeys({ from: kept(from), to: named }));
    expect(await codeOf(one.keys.move())).toBe('KEY_REQUEST_INVALID');
    expect(await codeOf(one.keys.move({ into: { billing: 'nobody' } }))).toBe('KEY_REQUEST_INVALID');
    expect(await namedIn(to)).toEqual([]);
    const { keys, left } = await fleet.eventually(one.keys.move({ into: { billing: second } }));
    expect(left).toEqual([]);
    expect(keys.map((pair) => pair.to).toSorted()).toEqual([(await to.active()).id, second].toSorted());
  });

  it('goes back the same way', async () => {
    await populated();
    const one = await fleet.join(both());
    await fleet.eventually(one.keys.move());
    await fleet.leave(one);
    const back = await fleet.join(movingKeys({ from: kept(to), to: kept(from) }));
    const { left } = await fleet.eventually(back.keys.move());
    expect(left).toEqual([]);
    expect(await namedIn(to)).toEqual([]);
    await fleet.leave(back);
    const alone = await fleet.join(kept(from));
    expect((await alone.manager.getSecretValue('Plain')).value).toBe('two');
  });

  it('is asked for with both providers only, which have no key in common', async () => {
    await begin();
    const alone = await fleet.join(kept(from));
    expect(await codeOf(alone.keys.move())).toBe('KEY_REQUEST_INVALID');
    const same = movingKeys({ from: kept(from), to: kept(from) });
    expect(await codeOf(same.open())).toBe('KEY_PROVIDER_INVALID');
    const provider = kept(from);
    expect(() => movingKeys({ from: provider, to: provider })).toThrow(/one provider twice/);
  });
});
