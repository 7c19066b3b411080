import { beforeEach, describe, expect, it } from '@jest/globals';
import { memoryStore, type ProcessTable, type StoreDriver, unknownProcesses } from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Instance, type ToldAnew } from '../src/fleet/instance.js';
import { parseInstanceRecord } from '../src/fleet/instance-record.js';
import { seededRandomness } from './seeded-randomness.js';
import { Host, type HostOptions } from './support/host.js';

const LEASE_MS = 9_000;
const KEY = 'instance/one';

let clock: SimulatedClock;
let shared: StoreDriver;

beforeEach(async () => {
  clock = new SimulatedClock();
  shared = memoryStore();
  await shared.open();
});

function instanceOn(host: Host, processes: ProcessTable = unknownProcesses) {
  const randomness = seededRandomness('fleet-instance');
  const instance = new Instance({ ...host, randomness, processes, id: 'one', leaseMs: LEASE_MS });
  const told: string[] = [];
  instance.listen({
    lapsed: () => void told.push('lapsed'),
    rejoining: async () => {
      told.push('rejoining');
      return [];
    },
    back: () => void told.push('back'),
  });
  return { instance, told };
}

async function joined(options: HostOptions = {}) {
  const host = new Host(clock, shared, options);
  const parts = instanceOn(host);
  await parts.instance.join();
  return { host, ...parts };
}

const entry = async () => parseInstanceRecord((await shared.get(KEY))?.value ?? Buffer.alloc(0));

describe('an instance', () => {
  it('has an entry when it has joined, which each heartbeat rewrites', async () => {
    const startedAt = clock.now();
    const { instance, told } = await joined();
    expect(await entry()).toEqual({ format: 1, id: 'one', beat: 1, leaseMs: LEASE_MS, startedAt });
    expect(instance.isLive()).toBe(true);
    await clock.advance(10 * LEASE_MS);
    const beats = (await entry())?.beat ?? 0;
    // Three a lease, each up to a tenth early.
    expect(beats).toBeGreaterThanOrEqual(30);
    expect(beats).toBeLessThanOrEqual(35);
    expect([instance.isLive(), instance.pauses(), told]).toEqual([true, 0, []]);
  });

  it('says which process it is, where the system can tell', async () => {
    const identity = { system: 'a test', pid: 7, startedAt: '1' };
    const { instance } = instanceOn(new Host(clock, shared), { ...unknownProcesses, self: () => identity });
    await instance.join();
    expect(await entry()).toMatchObject({ process: identity });
  });

  it('does not join without a store', async () => {
    const host = new Host(clock, shared);
    host.isCutOff = true;
    const { instance } = instanceOn(host);
    await expect(instance.join()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(instance.isLive()).toBe(false);
  });

  it('knows how long the store keeps its heartbeats waiting, while one waits and for three leases after', async () => {
    const { instance, host } = await joined();
    await clock.advance(LEASE_MS);
    expect(instance.strainMs()).toBe(0);
    let answer = (): void => undefined;
    host.beforeCommit = () => new Promise((resolve) => (answer = resolve));
    // The next heartbeat is due within a third of a lease.
    await clock.advance(LEASE_MS);
    const sofar = instance.strainMs();
    expect(sofar).toBeGreaterThanOrEqual((LEASE_MS * 2) / 3);
    await clock.advance(1_000);
    expect(instance.strainMs()).toBe(sofar + 1_000);
    host.beforeCommit = () => undefined;
    answer();
    await clock.advance(2 * LEASE_MS);
    expect(instance.strainMs()).toBe(sofar + 1_000);
    await clock.advance(LEASE_MS);
    expect(instance.strainMs()).toBe(0);
  });

  it('has lapsed a lease after its last confirmed heartbeat, and says so once', async () => {
    const { instance, told, host } = await joined();
    host.isCutOff = true;
    await clock.advance(LEASE_MS - 1);
    expect([instance.isLive(), told]).toEqual([true, []]);
    await clock.advance(1);
    expect([instance.isLive(), told]).toEqual([false, ['lapsed']]);
    await clock.advance(10 * LEASE_MS);
    expect(told).toEqual(['lapsed']);
  });

  it('counts its lease from when the heartbeat was sent, however late the answer comes', async () => {
    const host = new Host(clock, shared);
    const { instance, told } = instanceOn(host);
    let answer = (): void => undefined;
    host.beforeCommit = () => new Promise((resolve) => (answer = resolve));
    const joining = instance.join();
    await clock.advance(6_000);
    expect(instance.isLive()).toBe(false);
    answer();
    await joining;
    expect(instance.isLive()).toBe(true);
    host.isCutOff = true;
    await clock.advance(LEASE_MS - 6_000 - 1);
    expect([instance.isLive(), told]).toEqual([true, []]);
    await clock.advance(1);
    expect([instance.isLive(), told]).toEqual([false, ['lapsed']]);
  });

  it('is back when the store is, with nothing to be told anew while its entry is there', async () => {
    const { instance, told, host } = await joined();
    host.isCutOff = true;
    await clock.advance(2 * LEASE_MS);
    host.isCutOff = false;
    await clock.advance(LEASE_MS / 3);
    expect([instance.isLive(), told]).toEqual([true, ['lapsed', 'back']]);
  });

  it('rejoins under its id after others declared it dead, together with what it has to tell', async () => {
    const { instance, told } = await joined();
    const written: number[] = [];
    const word = (key: string): ToldAnew => ({
      conditions: [{ key, revision: 0 }],
      writes: [{ key, value: Buffer.from('held') }],
      written: (revision) => void written.push(revision),
    });
    instance.listen({ rejoining: async () => [word('ack/first'), word('ack/second')] });
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: null }] });
    await clock.advance(LEASE_MS / 3);
    expect(told).toEqual(['lapsed', 'rejoining', 'back']);
    expect(await entry()).toMatchObject({ id: 'one' });
    const revisions = await Promise.all([KEY, 'ack/first', 'ack/second'].map((key) => shared.get(key)));
    const [own, first, second] = revisions.map((stored) => stored?.revision ?? 0);
    // The first words in the commit that brought it back, the others right behind it.
    expect([first, second]).toEqual([own, Number(own) + 1]);
    expect(written).toEqual([first, second]);
    await clock.advance(3 * LEASE_MS);
    expect([instance.isLive(), told.length]).toEqual([true, 3]);
  });

  it('asks again what there is to tell when that has changed before it was told', async () => {
    const { instance, told } = await joined();
    instance.listen({
      rejoining: async () => {
        const revision = (await shared.get('ack/first'))?.revision ?? 0;
        // Somebody else is faster the first time.
        if (revision === 0)
          await shared.commit({ conditions: [], writes: [{ key: 'ack/first', value: Buffer.from('newer') }] });
        const writes = [{ key: 'ack/first', value: Buffer.from('told') }];
        return [{ conditions: [{ key: 'ack/first', revision }], writes, written: () => undefined }];
      },
    });
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: null }] });
    await clock.advance(LEASE_MS / 3);
    expect([instance.isLive(), told]).toEqual([true, ['lapsed', 'rejoining', 'rejoining', 'back']]);
    expect(Buffer.from((await shared.get('ack/first'))?.value ?? []).toString()).toBe('told');
  });

  it('tells everything anew at a later heartbeat when the store failed it before, and does not live until then', async () => {
    const { instance, told } = await joined();
    let failures = 2;
    instance.listen({
      rejoining: async () => {
        // Nothing may be done in this process's name while others do not know what it holds.
        expect(instance.isLive()).toBe(false);
        failures -= 1;
        if (failures >= 0) throw new Error('the store is away');
        return [];
      },
    });
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: null }] });
    await clock.advance((2 * LEASE_MS) / 3);
    expect([instance.isLive(), told]).toEqual([false, ['lapsed', 'rejoining', 'rejoining']]);
    expect(await shared.get(KEY)).toBeUndefined();
    await clock.advance(LEASE_MS / 3);
    expect([instance.isLive(), told]).toEqual([true, ['lapsed', 'rejoining', 'rejoining', 'rejoining', 'back']]);
  });

  it('goes on with a heartbeat of its own whose answer was lost', async () => {
    const { instance, told, host } = await joined();
    host.answersToLose = 2;
    await clock.advance(LEASE_MS / 3);
    expect(await entry()).toMatchObject({ beat: 2 });
    await clock.advance(3 * LEASE_MS);
    expect(host.answersToLose).toBe(0);
    expect([instance.isLive(), told]).toEqual([true, []]);
  });

  it('leaves: its entry is gone, also when a heartbeat was on its way, and no timer stays', async () => {
    const { instance, told, host } = await joined();
    let arrive = (): void => undefined;
    host.beforeCommit = () => new Promise((resolve) => (arrive = resolve));
    await clock.advance(LEASE_MS / 3);
    const beating = arrive;
    host.beforeCommit = () => undefined;
    const left = instance.leave();
    beating();
    await left;
    expect([await entry(), instance.isLive(), clock.pending]).toEqual([undefined, false, 0]);
    await clock.advance(3 * LEASE_MS);
    expect([await entry(), told]).toEqual([undefined, []]);
  });

  it('leaves without a store as well, and leaves it to others to find out', async () => {
    const { instance, host } = await joined();
    host.isCutOff = true;
    await instance.leave();
    expect([instance.isLive(), clock.pending]).toEqual([false, 0]);
    expect(await entry()).toBeDefined();
  });
});

describe('a pause', () => {
  it('is noticed, at the first look and before any timer, when it was as long as the lease', async () => {
    const { instance, told, host } = await joined();
    host.freeze();
    await clock.advance(LEASE_MS);
    host.thaw();
    expect([instance.isLive(), instance.pauses(), told]).toEqual([false, 1, ['lapsed']]);
    let isAwake = false;
    const awake = instance.awake().then(() => (isAwake = true));
    expect(isAwake).toBe(false);
    await awake;
    expect([instance.isLive(), instance.pauses(), told]).toEqual([true, 1, ['lapsed', 'back']]);
    await clock.advance(3 * LEASE_MS);
    expect(instance.pauses()).toBe(1);
  });

  it('is noticed by the next heartbeat when nobody looks', async () => {
    const { instance, told, host } = await joined();
    host.freeze();
    await clock.advance(3 * LEASE_MS);
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: null }] });
    host.thaw();
    await clock.advance(1);
    expect(told).toEqual(['lapsed', 'rejoining', 'back']);
    expect([instance.isLive(), instance.pauses()]).toEqual([true, 1]);
  });

  it('of less than the lease is none', async () => {
    const { instance, told, host } = await joined();
    host.freeze();
    await clock.advance(LEASE_MS - 1);
    host.thaw();
    expect([instance.isLive(), instance.pauses()]).toEqual([true, 0]);
    await clock.advance(LEASE_MS);
    expect([instance.isLive(), instance.pauses(), told]).toEqual([true, 0, []]);
  });

  it('of a machine whose monotonic clock stood still shows on the wall clock', async () => {
    const { instance, told, host } = await joined({ sleeps: true });
    host.freeze();
    await clock.advance(LEASE_MS);
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: null }] });
    host.thaw();
    expect(instance.pauses()).toBe(1);
    await instance.awake();
    expect([instance.isLive(), told]).toEqual([true, ['lapsed', 'rejoining', 'back']]);
  });

  it('keeps nobody waiting for a store that does not answer', async () => {
    const { instance, host } = await joined();
    host.freeze();
    await clock.advance(LEASE_MS);
    host.thaw();
    host.beforeCommit = () => new Promise(() => undefined);
    expect(instance.pauses()).toBe(1);
    let isAwake = false;
    const awake = instance.awake().then(() => (isAwake = true));
    await clock.advance(1_999);
    expect(isAwake).toBe(false);
    await clock.advance(1);
    await awake;
    expect(instance.isLive()).toBe(false);
  });
});
