import { afterEach, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { CREDENTIALS, Fleet } from 'nestjs-secrets-test/chaos/fleet';
import type { FleetProcess } from 'nestjs-secrets-test/chaos/fleet-process';
import type { FleetStoreKind } from 'nestjs-secrets-test/chaos/fleet-store';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';
import { describeWithEtcd } from 'nestjs-secrets-test/describe-with-etcd';
import { describeWithRedis } from 'nestjs-secrets-test/describe-with-redis';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

let fleet: Fleet | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

const succeededOf = (process: FleetProcess): number =>
  [...process.history().succeeded.values()].reduce((sum, count) => sum + count, 0);

/** Waits for queries that succeed from now on. */
async function serves(process: FleetProcess): Promise<void> {
  const before = succeededOf(process);
  await eventually(`${process.name} serves`, () => succeededOf(process) > before + 30, 40_000);
}

const versionOf = async (process: FleetProcess): Promise<string | undefined> =>
  (await process.health()).secrets[CREDENTIALS]?.versionId;

function tests(store: FleetStoreKind): void {
  it('I1 I5 I6: rotates while one instance is stopped and another is killed, and every query elsewhere succeeds', async () => {
    fleet = await Fleet.start({ store, processes: 3, answerWithinMs: 5000, leaseMs: 8000 });
    const { processes, manager, servers } = fleet;
    const [rotating, doomed, frozen] = processes;
    if (rotating === undefined || doomed === undefined || frozen === undefined) throw new Error('no processes');
    await Promise.all(processes.map(serves));
    const { value: first } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);

    // All alive: the old credential dies when everybody has acknowledged the new one.
    const { versionId } = await rotating.rotate({ until: 'retired' });
    for (const process of processes) expect(await versionOf(process)).toBe(versionId);
    expect(await logIn(servers.target, first)).toBeUndefined();

    const frozenId = await frozen.ready;
    const { value: second } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    frozen.freeze();
    // Whoever is killed right before its promotion leaves the rotation to another.
    await expect(doomed.rotate({ until: 'retired' }, 'before joint commit 2')).rejects.toThrow('SIGKILL');
    await fleet.settled();
    const after = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    expect(after.versionId).toBe(`v${Number(versionId.slice(1)) + 1}`);
    expect(await logIn(servers.target, second)).toBeUndefined();
    expect(await logIn(servers.target, after.value)).toBe(after.value.username);

    frozen.thaw();
    await serves(frozen);
    await eventually('the thawed instance is up to date', async () => (await versionOf(frozen)) === after.versionId);
    expect(await frozen.ready).toBe(frozenId);
    expect(judgeQueries([rotating, frozen], fleet.leaseMs).failed).toEqual([]);
    expect(rotating.fault).toBeUndefined();
  }, 300_000);

  it('I9: outlives the SIGKILL of its store between two rotations, and goes on where it was', async () => {
    fleet = await Fleet.start({ store, processes: 2, answerWithinMs: 5000, leaseMs: 8000 });
    const { processes, manager, otherStore } = fleet;
    const [rotating] = processes;
    if (rotating === undefined || otherStore === undefined) throw new Error('no processes');
    const { versionId } = await rotating.rotate({ until: 'retired' });
    await otherStore.kill();
    for (const process of processes) {
      await eventually(`${process.name} is degraded`, async () => (await process.health()).degraded, 60_000);
      await serves(process);
    }
    await otherStore.restart();
    for (const process of processes)
      await eventually(`${process.name} is well again`, async () => !(await process.health()).degraded, 60_000);
    expect((await manager.getSecretValue(CREDENTIALS)).versionId).toBe(versionId);
    const next = await rotating.rotate({ until: 'retired' });
    expect(next.versionId).toBe(`v${Number(versionId.slice(1)) + 1}`);
    for (const process of processes) expect(await versionOf(process)).toBe(next.versionId);
    expect(judgeQueries(processes, fleet.leaseMs).failed).toEqual([]);
  }, 300_000);
}

describeWithRedis('a fleet whose store is on Redis', () => tests('redis'));
describeWithEtcd('a fleet whose store is on etcd', () => tests('etcd'));
