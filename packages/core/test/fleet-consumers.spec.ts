import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  memoryStore,
  type ProcessTable,
  type RotationPolicy,
  secretLink,
  type StoreDriver,
  recordPayload,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Acknowledgements } from '../src/fleet/acknowledgements.js';
import { Consumers } from '../src/fleet/consumers.js';
import { Instance } from '../src/fleet/instance.js';
import { InstanceWatch } from '../src/fleet/instance-watch.js';
import { seededRandomness } from './seeded-randomness.js';
import { Host } from './support/host.js';
import { holdOn, type Login, named, startWorld, Target, TargetRotator } from './support/world.js';

const LEASE_MS = 9_000;

let clock: SimulatedClock;
let shared: StoreDriver;
let consumers: Consumers;
const ended = new Set<number>();

/** Process ids are counted in the order of joining. */
let pids = 0;

function processes(): ProcessTable {
  const pid = (pids += 1);
  return { self: () => ({ system: 'a test', pid, startedAt: '' }), hasEnded: (other) => ended.has(other.pid) };
}

beforeEach(async () => {
  clock = new SimulatedClock();
  shared = memoryStore();
  await shared.open();
  ended.clear();
  pids = 0;
  consumers = new Consumers(shared, new InstanceWatch(shared, clock, processes(), LEASE_MS), 'own');
});

/** An instance that has a handle on `Db`. */
async function consumer(id: string, promotion: number, held: { label: string; versionIds: string[] }[] = []) {
  const host = new Host(clock, shared);
  const randomness = seededRandomness(id);
  const table = processes();
  const instance = new Instance({ ...host, randomness, processes: table, id, leaseMs: LEASE_MS });
  await instance.join();
  const acknowledgements = new Acknowledgements(host.store, instance, host.clock, randomness);
  await acknowledgements.register('Db');
  acknowledgements.acknowledge({ secretName: 'Db', promotion, held });
  await clock.advance(0);
  const kill = (): void => {
    host.kill();
    ended.add(table.self()?.pid ?? 0);
  };
  return { host, instance, acknowledgements, kill };
}

const using = () => consumers.using('Db', ['v1'], 2);

describe('who uses a version', () => {
  it('is nobody where no instance has a handle', async () => {
    expect(await using()).toEqual({ holders: [], acknowledged: [], condition: { key: 'borrow/Db', revision: 0 } });
    expect(await consumers.using('Other', ['v1'], 2)).toMatchObject({ holders: [] });
  });

  it('is each instance that has not reached the promotion, and each consumer that holds on', async () => {
    await consumer('own', 1);
    await consumer('behind', 1, [{ label: 'a pool', versionIds: ['v0', 'v1'] }]);
    await consumer('holding', 2, [{ label: 'a pool', versionIds: ['v1', 'v2'] }]);
    await consumer('moved-on', 2, [{ label: 'a pool', versionIds: ['v2'] }]);
    await consumer('ahead', 5);
    const { holders, acknowledged } = await using();
    expect(new Set(holders)).toEqual(
      new Set([
        'the handle in this process',
        'the handle of instance behind',
        'a pool of instance behind',
        'a pool of instance holding',
      ]),
    );
    expect([...acknowledged].sort()).toEqual(['ahead', 'moved-on']);
  });

  it('is whoever has registered and not read yet', async () => {
    const { acknowledgements } = await consumer('one', 2);
    await acknowledgements.register('New');
    expect((await consumers.using('New', ['v1'], 1)).holders).toEqual(['the handle of instance one']);
  });

  it('is whoever left a word that cannot be read', async () => {
    await consumer('one', 2);
    await shared.commit({ conditions: [], writes: [{ key: 'ack/Db:one', value: Buffer.from('{') }] });
    expect((await using()).holders).toEqual(['an unreadable acknowledgement of instance one']);
  });

  it('is nobody who is gone: left, or declared dead; the words of the dead are removed', async () => {
    const [one, other] = [await consumer('one', 1), await consumer('other', 1)];
    await one.acknowledgements.leave();
    await one.instance.leave();
    expect((await using()).holders).toEqual(['the handle of instance other']);
    other.kill();
    expect(await using()).toMatchObject({ holders: [], acknowledged: [] });
    expect(await shared.get('ack/Db:other')).toBeUndefined();
  });

  it('is never this instance by mistake gone: it asks about others alone', async () => {
    const own = await consumer('own', 1);
    own.kill();
    expect((await using()).holders).toEqual(['the handle in this process']);
    expect(await shared.get('instance/own')).toBeDefined();
  });

  it('is every one of many instances', async () => {
    const words = Array.from({ length: 1_100 }, (_, index) => `i${index}`);
    for (const id of words)
      await shared.commit({
        conditions: [],
        writes: [
          { key: `instance/${id}`, value: Buffer.from('{}') },
          { key: `ack/Db:${id}`, value: Buffer.from('{"format":1,"promotion":1,"held":[]}') },
        ],
      });
    expect((await using()).holders).toHaveLength(1_100);
  });

  it('holds only until somebody borrows: a commit on its condition is refused then', async () => {
    const { acknowledgements } = await consumer('one', 2);
    const { holders, condition } = await using();
    expect(holders).toEqual([]);
    const writes = [{ key: 'retired', value: Buffer.alloc(0) }];
    await acknowledgements.borrow('Db', ['v1']);
    expect(await shared.commit({ conditions: [condition], writes })).toBeUndefined();
    const again = await using();
    expect(again.holders).toEqual(['a log-in being tried again of instance one']);
    expect(await shared.commit({ conditions: [again.condition], writes })).toBeDefined();
  });

  it('tidies up the words of instances without an entry, and no others', async () => {
    const [gone] = [await consumer('gone', 2), await consumer('here', 2)];
    await gone.instance.leave();
    await consumers.tidy('Db');
    expect(await shared.get('ack/Db:gone')).toBeUndefined();
    expect(await shared.get('ack/Db:here')).toBeDefined();
  });
});

describe('the word of a handle', () => {
  async function watched(policy: Partial<RotationPolicy> = {}) {
    const host = new Host(clock, shared);
    const log: string[] = [];
    const { store } = host;
    const get: StoreDriver['get'] = (key) => {
      // What proves an entry is read beside it.
      if (!key.startsWith('integrity/')) log.push(`read ${key.split('/')[0]}`);
      return host.store.get(key);
    };
    const rotator = new TargetRotator(new Target(), ['app_1', 'app_2', 'app_3']);
    const world = await startWorld({ store: { ...store, get }, clock, rotators: [named(rotator)] });
    const words: { promotion: number; held: string[] }[] = [];
    let borrows = 0;
    host.beforeCommit = ({ writes }) => {
      if (writes.some(({ key }) => key === 'borrow/Db')) borrows += 1;
      const value = writes.find(({ key }) => key.startsWith('ack/Db:'))?.value;
      if (!value) return;
      const { promotion, held } = JSON.parse(Buffer.from(recordPayload(value)).toString('utf8')) as {
        promotion: number;
        held: { versionIds: string[] }[];
      };
      words.push({ promotion, held: held.flatMap(({ versionIds }) => versionIds) });
      log.push(`acknowledge ${promotion}`);
    };
    const first: Login = { username: 'app_1', password: 'first-password' };
    rotator.target.accounts.set(first.username, first.password);
    await world.manager.createSecret('Db', first, { rotation: { ...policy, rotator: 'target' } });
    return { world, log, words, borrows: () => borrows };
  }

  it('is in the store before anything of the secret is read', async () => {
    const { world, log } = await watched();
    log.length = 0;
    await world.secret('Db');
    await clock.advance(0);
    const begun = log.slice(log.indexOf('acknowledge 0'));
    expect(begun.slice(0, 3)).toEqual(['acknowledge 0', 'read secret', 'read value']);
    expect(log.indexOf('read value')).toBeGreaterThan(log.indexOf('acknowledge 0'));
    expect(log.filter((line) => line.startsWith('acknowledge')).at(-1)).toBe('acknowledge 1');
  });

  it('only grows in its promotion; what it holds is never older than the current version but after a borrow', async () => {
    const { world, words, borrows } = await watched();
    const secret = await world.secret('Db');
    const hold = holdOn(secret, 'v1');
    for (let rotation = 0; rotation < 2; rotation += 1) {
      await world.manager.rotateSecret('Db');
      await secret.refresh();
    }
    await clock.advance(0);
    hold.release();
    await clock.advance(0);
    const promotions = words.map(({ promotion }) => promotion);
    expect(promotions.at(-1)).toBe(3);
    expect(promotions).toEqual([...promotions].sort((one, other) => one - other));
    const heldThen = words.map(({ held }) => held.includes('v1'));
    // From nothing to the hold of the consumer that began while v1 was current, and back, once.
    expect(heldThen.filter((isHeld, index) => isHeld !== (heldThen[index - 1] ?? false))).toEqual([true, false]);
    // Once, as it began.
    expect(borrows()).toBe(1);
  });

  it('names an old version again when it is a candidate, and gives it back in a later turn', async () => {
    const { world, words, borrows } = await watched({ probation: '1h' });
    const secret = await world.secret('Db');
    await world.manager.rotateSecret('Db');
    await secret.refresh();
    await clock.advance(0);
    expect([words.at(-1), borrows()]).toEqual([{ promotion: 2, held: [] }, 1]);
    const candidates = await secretLink(secret).candidates();
    expect(candidates.map(({ versionId }) => versionId)).toEqual(['v2', 'v1']);
    expect([words.at(-1), borrows()]).toEqual([{ promotion: 2, held: ['v1'] }, 2]);
    await clock.advance(0);
    expect([words.at(-1), borrows()]).toEqual([{ promotion: 2, held: [] }, 2]);
  });
});
