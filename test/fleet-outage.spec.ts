import { afterEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials, RotationEvent } from '@nestjs-secrets/core';
import { CREDENTIALS, Fleet, type FleetOptions } from 'nestjs-secrets-test/chaos/fleet';
import { FleetAnswerError } from 'nestjs-secrets-test/chaos/fleet-process';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

/** How long the store is away. The full run is FLEET_OUTAGE_SECONDS=60. */
const OUTAGE_MS = Number(process.env.FLEET_OUTAGE_SECONDS ?? '9') * 1000;
const EVERY_MS = 6_000;

let fleet: Fleet | undefined;

afterEach(async () => {
  await fleet?.close();
  fleet = undefined;
});

async function start(options: Partial<FleetOptions>): Promise<Fleet> {
  fleet = await Fleet.start({ processes: 3, answerWithinMs: 700, ...options });
  return fleet;
}

type Failed = Extract<RotationEvent, { type: 'failed' }>;

describe('a fleet whose store is away while a rotation is due', () => {
  it(
    'serves on with what it has, says that it is degraded, and makes up for the rotation once',
    async () => {
      const running = await start({ every: EVERY_MS });
      const { processes, storeLinks } = running;
      const promoted = async (): Promise<number> => (await running.proof()).promotions.length;
      const before = await promoted();
      await eventually('a rotation by schedule', async () => (await promoted()) > before, 40_000);
      await running.settled();
      const awayAt = Date.now();
      for (const link of storeLinks) link.lose();
      for (const process of processes) {
        await eventually(`${process.name} is degraded`, async () => (await process.health()).degraded, 40_000);
        expect(await process.health()).toMatchObject({ status: 'up' });
      }
      // The outage is what is tested, so this waits for its end and for nothing else.
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, awayAt + OUTAGE_MS - Date.now())));
      const backAt = Date.now();
      for (const link of storeLinks) link.mend();
      const since = async (): Promise<readonly { readonly startedAt: number }[]> =>
        (await running.proof()).promotions.filter(({ startedAt }) => startedAt >= awayAt);
      await eventually('two rotations after the outage', async () => (await since()).length >= 2, 60_000);
      const [first, second] = await since();
      if (first === undefined || second === undefined) throw new Error('no rotations');
      expect(first.startedAt).toBeGreaterThanOrEqual(backAt);
      // However many were missed: the one after it is due a whole interval later.
      expect(second.startedAt - first.startedAt).toBeGreaterThanOrEqual(EVERY_MS);
      for (const process of processes)
        await eventually(`${process.name} is well again`, async () => !(await process.health()).degraded, 40_000);
      expect(judgeQueries(running.started, running.leaseMs)).toMatchObject({ failed: [], excused: 0 });
      expect(await running.proof()).toMatchObject({ concurrentRotators: [], earlyRetirements: [] });
    },
    120_000 + OUTAGE_MS,
  );
});

describe('a fleet whose administrator is refused by the target', () => {
  it('fails, tries to clean up with growing pauses, locks nobody out, and rotates once the administrator is let in', async () => {
    const running = await start({});
    const { processes, manager, servers } = running;
    const [first] = processes;
    if (first === undefined) throw new Error('no process');
    const before = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
    for (const process of processes) await process.ask({ ask: 'admin', works: false });
    const failure = await first.rotate().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(FleetAnswerError);
    expect(failure).toMatchObject({ code: 'ROTATION_FAILED' });
    expect(String(failure)).not.toContain(servers.target.admin.password);
    const retries = (): Failed[] =>
      first.events.filter((event): event is Failed => event.type === 'failed' && event.retryAt !== undefined);
    await eventually('three failed tries to clean up', () => retries().length >= 3, 40_000);
    const pauses = retries().map(({ at, retryAt = 0 }) => retryAt - at);
    expect(pauses.slice(0, 3)).toEqual(pauses.slice(0, 3).toSorted((one, other) => one - other));
    expect((await manager.getSecretValue(CREDENTIALS)).versionId).toBe(before.versionId);
    expect(await logIn(servers.target, before.value)).toBe(before.value.username);
    for (const process of processes) await process.ask({ ask: 'admin', works: true });
    await running.settled();
    const { versionId } = await first.rotate({ until: 'retired' });
    expect((await manager.getSecretValue(CREDENTIALS)).versionId).toBe(versionId);
    expect(await logIn(servers.target, before.value)).toBeUndefined();
    expect(judgeQueries(running.started, running.leaseMs).failed).toEqual([]);
  }, 120_000);
});
