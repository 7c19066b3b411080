import { afterEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials, RotationEvent } from '@nestjs-secrets/core';
import { CREDENTIALS, Fleet, type FleetOptions } from 'nestjs-secrets-test/chaos/fleet';
import type { FleetProcess } from 'nestjs-secrets-test/chaos/fleet-process';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

let fleet: Fleet | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function start(options: Partial<FleetOptions>): Promise<Fleet> {
  fleet = await Fleet.start({ processes: 3, ...options });
  return fleet;
}

const succeededOf = (process: FleetProcess): number =>
  [...process.history().succeeded.values()].reduce((sum, count) => sum + count, 0);

/** Waits for queries that succeed from now on. */
async function serves(process: FleetProcess): Promise<void> {
  const before = succeededOf(process);
  await eventually(`${process.name} serves`, () => succeededOf(process) > before + 30, 40_000);
}

async function sessionsOf({ servers }: Fleet, role: string): Promise<number> {
  return (await servers.target.query('SELECT FROM pg_stat_activity WHERE usename = $1', [role])).length;
}

describe('an instance that is stopped with SIGSTOP', () => {
  it('for longer than its lease holds nobody up for ever, and reads anew before its first query when it goes on', async () => {
    const { processes, manager, servers } = await start({});
    const [rotating, , frozen] = processes;
    if (rotating === undefined || frozen === undefined || fleet === undefined) throw new Error('no processes');
    const frozenId = await frozen.ready;
    await serves(frozen);
    const { value: old } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    frozen.freeze();
    const result = await rotating.rotate({ until: 'retired' });
    expect(result.retired).toMatchObject({ settled: { cutOff: [] }, report: { refused: true, sessionsLeft: 0 } });
    expect(result.retired?.settled?.acknowledged).not.toContain(frozenId);
    const named = processes
      .flatMap(({ events }) => events)
      .filter((event) => event.type === 'settling' && event.holders.some((holder) => holder.includes(frozenId)));
    expect(named).not.toEqual([]);
    expect(await logIn(servers.target, old)).toBeUndefined();
    frozen.thaw();
    await serves(frozen);
    expect(await frozen.health()).toMatchObject({ secrets: { [CREDENTIALS]: { versionId: result.versionId } } });
    const verdict = judgeQueries(fleet.started, fleet.leaseMs);
    expect(verdict.failed).toEqual([]);
    expect(processes.map(({ fault }) => fault)).toEqual([undefined, undefined, undefined]);
    expect(await fleet.proof()).toMatchObject({ concurrentRotators: [], earlyRetirements: [] });
  });

  it('is cut off at the deadline of an emergency, whose result names it, and serves again when it goes on', async () => {
    // Long enough that nobody takes it for dead before the deadline.
    const { processes, manager, servers } = await start({ leaseMs: 20_000 });
    const [rotating, other, frozen] = processes;
    if (rotating === undefined || other === undefined || frozen === undefined || fleet === undefined)
      throw new Error('no processes');
    const frozenId = await frozen.ready;
    await serves(frozen);
    const { value: old } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    frozen.freeze();
    const result = await rotating.rotate({ emergency: true, deadline: '3s' });
    const { settled, report } = result.retired ?? {};
    expect(settled?.cutOff).not.toEqual([]);
    for (const holder of settled?.cutOff ?? []) expect(holder).toContain(frozenId);
    expect(settled?.acknowledged).toEqual(expect.arrayContaining([await rotating.ready, await other.ready]));
    expect(report).toMatchObject({ refused: true, sessionsLeft: 0 });
    expect(await logIn(servers.target, old)).toBeUndefined();
    expect(await sessionsOf(fleet, old.username)).toBe(0);
    const isCutOff = (event: RotationEvent): boolean =>
      event.type === 'cut-off' && event.versionId === result.previousVersionId;
    expect(rotating.events.filter(isCutOff)).toHaveLength(1);
    expect(judgeQueries([rotating, other], fleet.leaseMs).failed).toEqual([]);
    frozen.thaw();
    await serves(frozen);
    expect(await frozen.health()).toMatchObject({ secrets: { [CREDENTIALS]: { versionId: result.versionId } } });
    expect(frozen.fault).toBeUndefined();
  });
});
