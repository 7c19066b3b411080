import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  memoryStore,
  type ProcessTable,
  type StoreDriver,
  systemProcesses,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Instance } from '../src/fleet/instance.js';
import { InstanceWatch } from '../src/fleet/instance-watch.js';
import { seededRandomness } from './seeded-randomness.js';
import { Host, type HostOptions } from './support/host.js';

const LEASE_MS = 9_000;
const LOOK_MS = LEASE_MS / 4;
const KEY = 'instance/one';

let clock: SimulatedClock;
let shared: StoreDriver;

beforeEach(async () => {
  clock = new SimulatedClock();
  shared = memoryStore();
  await shared.open();
});

async function joined(options: HostOptions = {}, processes: ProcessTable = unknownProcesses, leaseMs = LEASE_MS) {
  const host = new Host(clock, shared, options);
  const randomness = seededRandomness('fleet-instance-watch');
  const instance = new Instance({ ...host, randomness, processes, id: 'one', leaseMs });
  await instance.join();
  return { host, instance };
}

function watching(options: HostOptions = {}, processes: ProcessTable = unknownProcesses) {
  const host = new Host(clock, shared, options);
  return { host, watch: new InstanceWatch(host.store, host.clock, processes, LEASE_MS) };
}

const exists = async (): Promise<boolean> => (await shared.get(KEY)) !== undefined;

/** How long it takes, in the world's time, until looks that follow each other closely find the instance gone. */
async function timeUntilGone(watch: InstanceWatch, lookMs = LOOK_MS): Promise<number> {
  const begun = clock.now();
  while (!(await watch.isGone('one'))) {
    if (clock.now() - begun > 10 * LEASE_MS) return Number.POSITIVE_INFINITY;
    await clock.advance(lookMs);
  }
  return clock.now() - begun;
}

describe('the watch over other instances', () => {
  it('takes for gone who has no entry, as after leaving', async () => {
    const { watch } = watching();
    expect(await watch.isGone('one')).toBe(true);
    const { instance } = await joined();
    expect(await watch.isGone('one')).toBe(false);
    await instance.leave();
    expect(await watch.isGone('one')).toBe(true);
  });

  it('never takes for gone who sends heartbeats', async () => {
    const { instance } = await joined();
    expect(await timeUntilGone(watching().watch)).toBe(Number.POSITIVE_INFINITY);
    expect([await exists(), instance.isLive()]).toEqual([true, true]);
  });

  it('asks to be asked often enough to find out', () => {
    expect(watching().watch.lookEveryMs).toBe(LOOK_MS);
  });

  it('declares gone who was silent for two leases, by removing the entry', async () => {
    const { host } = await joined();
    host.kill();
    const { watch } = watching();
    await clock.advance(100 * LEASE_MS);
    // Only what was seen counts: the silence before the first look proves nothing.
    expect(await timeUntilGone(watch)).toBe(2 * LEASE_MS);
    expect(await exists()).toBe(false);
    expect(await watch.isGone('one')).toBe(true);
  });

  it('does not count the time between looks that lie more than a lease apart', async () => {
    const { host } = await joined();
    host.kill();
    const { watch } = watching();
    for (let look = 0; look < 20; look += 1) {
      expect(await watch.isGone('one')).toBe(false);
      await clock.advance(LEASE_MS + 1);
    }
    expect(await timeUntilGone(watch)).toBe(2 * LEASE_MS);
  });

  it('begins anew after a look that failed', async () => {
    const { host } = await joined();
    host.kill();
    const { watch, host: own } = watching();
    for (let look = 0; look < 8; look += 1) {
      expect(await watch.isGone('one')).toBe(false);
      await clock.advance(LOOK_MS);
    }
    own.isCutOff = true;
    await expect(watch.isGone('one')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    own.isCutOff = false;
    expect(await timeUntilGone(watch)).toBe(2 * LEASE_MS);
  });

  it('begins anew after a heartbeat', async () => {
    const { host } = await joined();
    host.freeze();
    const { watch } = watching();
    await watch.isGone('one');
    await clock.advance(LEASE_MS - 1);
    await watch.isGone('one');
    host.thaw();
    await clock.advance(LEASE_MS / 2);
    host.kill();
    expect(await timeUntilGone(watch)).toBe(2 * LEASE_MS);
  });

  it('goes by the lease that the instance has stated, and by its own where it cannot be read', async () => {
    const { host } = await joined({}, unknownProcesses, 3 * LEASE_MS);
    host.kill();
    expect(await timeUntilGone(watching().watch)).toBe(6 * LEASE_MS);
    await shared.commit({ conditions: [], writes: [{ key: KEY, value: Buffer.from('{"format":9}') }] });
    expect(await timeUntilGone(watching().watch)).toBe(2 * LEASE_MS);
  });

  it('leaves an instance alone that sends a heartbeat at the last moment', async () => {
    const { host, instance } = await joined();
    host.freeze();
    const { watch, host: own } = watching();
    own.beforeCommit = async () => {
      host.thaw();
      expect(instance.pauses()).toBe(1);
      await instance.awake();
    };
    expect(await timeUntilGone(watch)).toBe(Number.POSITIVE_INFINITY);
    expect([await exists(), instance.isLive()]).toEqual([true, true]);
  });

  it.each([
    { slow: 1, fast: 1.25, label: 'the watch runs a quarter faster' },
    { slow: 0.8, fast: 1, label: 'the instance runs a fifth slower' },
    { slow: 1.25, fast: 1, label: 'the instance runs a quarter faster' },
  ])('has an instance lapse before others declare it gone, when the clock of $label', async ({ slow, fast }) => {
    const { instance, host } = await joined({ pace: slow });
    const { watch } = watching({ pace: fast });
    expect(await timeUntilGone(watch)).toBe(Number.POSITIVE_INFINITY);
    host.isCutOff = true;
    const since = clock.now();
    let lapsedAt = Number.POSITIVE_INFINITY;
    instance.listen({ lapsed: () => (lapsedAt = clock.now()) });
    const took = await timeUntilGone(watch, LOOK_MS / 5);
    expect(took).toBeLessThan(3 * LEASE_MS);
    expect(lapsedAt).toBeLessThan(since + took);
    expect(instance.isLive()).toBe(false);
    host.isCutOff = false;
    await clock.advance(LEASE_MS);
    expect([await exists(), instance.isLive()]).toEqual([true, true]);
  });
});

describe('a store that keeps heartbeats waiting', () => {
  const declaredAfter = async (strainMs: number): Promise<number> => {
    const { host } = await joined();
    host.kill();
    const own = new Host(clock, shared);
    return timeUntilGone(new InstanceWatch(own.store, own.clock, unknownProcesses, LEASE_MS, () => strainMs));
  };

  it('has others be as patient for longer as their own heartbeats take', async () => {
    expect(await declaredAfter(LOOK_MS)).toBe(2 * LEASE_MS + LOOK_MS);
    expect(await declaredAfter(LEASE_MS)).toBe(3 * LEASE_MS);
  });

  it('does not make them patient for ever', async () => {
    expect(await declaredAfter(Number.POSITIVE_INFINITY)).toBe(4 * LEASE_MS);
  });
});

describe('a process that is known to have ended', () => {
  const identity = { system: 'a test', pid: 7, startedAt: '1' };

  it('is gone at the first look', async () => {
    const { host } = await joined({}, { ...unknownProcesses, self: () => identity });
    host.kill();
    const ended: unknown[] = [];
    const { watch } = watching({}, { ...unknownProcesses, hasEnded: (other) => ended.push(other) > 0 });
    expect(await watch.isGone('one')).toBe(true);
    expect([ended, await exists()]).toEqual([[identity], false]);
  });

  // Elsewhere nothing is known of any process.
  const onLinux = process.platform === 'linux' ? it : it.skip;

  onLinux('is one of this very system, told apart from a later one with the same process id', async () => {
    const own = systemProcesses.self() ?? { ...identity, pid: 0 };
    expect(own).toEqual({ system: expect.any(String), pid: process.pid, startedAt: startOf(process.pid) });
    expect(systemProcesses.hasEnded(own)).toBe(false);
    expect(systemProcesses.hasEnded({ ...own, startedAt: `${own.startedAt}0` })).toBe(true);
    expect(systemProcesses.hasEnded({ ...own, startedAt: `${own.startedAt}0`, system: 'another' })).toBe(false);
    const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'ignore'] });
    await once(child, 'spawn');
    const { pid = 0 } = child;
    const other = { ...own, pid, startedAt: startOf(pid) };
    expect(systemProcesses.hasEnded(other)).toBe(false);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(systemProcesses.hasEnded(other)).toBe(true);
  });
});

/** Field 22 of proc(5); node's name, in field 2, has no space. */
function startOf(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ')[21] ?? '';
}
