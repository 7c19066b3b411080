import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials, RotationEvent, RotationResult } from '@nestjs-secrets/core';
import { CREDENTIALS, Fleet } from 'nestjs-secrets-test/chaos/fleet';
import { BAD_CREDENTIALS } from 'nestjs-secrets-test/chaos/bad-credentials';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';
import { eventually } from './support/eventually.js';
import { logIn } from './support/log-in.js';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.start({ processes: 3, probation: '60s' });
});

afterEach(() => fleet?.close());

type RolledBack = Extract<RotationEvent, { type: 'rolled-back' }>;

const valueOf = async (versionId: string): Promise<DatabaseCredentials> =>
  (await fleet.manager.getSecretValue<DatabaseCredentials>(CREDENTIALS, { versionId })).value;

/** Every process writes again, on connections that are all of the version that was put back. */
async function allServe(): Promise<void> {
  const writes = (): number[] => fleet.processes.map((process) => process.history().succeeded.get('insert') ?? 0);
  const before = writes();
  await eventually(
    'all processes write again',
    () => writes().every((count, at) => count > (before[at] ?? 0) + 10),
    40_000,
  );
}

describe('a new credential that is made bad after it was promoted', () => {
  it.each([...BAD_CREDENTIALS])(
    '%s: the one before is put back everywhere, and the application serves on',
    async (_what, bad) => {
      const [rotating] = fleet.processes;
      if (rotating === undefined) throw new Error('no process');
      const { versionId, previousVersionId = '' }: RotationResult = await rotating.rotate();
      const [made, before] = [await valueOf(versionId), await valueOf(previousVersionId)];
      await bad.spoil(fleet.servers.target, made.username);
      const isRolledBack = (event: RotationEvent): event is RolledBack => event.type === 'rolled-back';
      const rolledBack = await rotating.event(isRolledBack);
      expect(rolledBack).toMatchObject({ versionId: previousVersionId, failedVersionId: versionId });
      const types = rotating.events.filter(({ at }) => at <= rolledBack.at).map(({ type }) => type);
      expect(types.indexOf('promoted')).toBeLessThan(types.indexOf('suspected'));
      expect(types.indexOf('suspected')).toBeLessThan(types.indexOf('rolled-back'));
      expect(rotating.events.find((event) => event.type === 'suspected' && event.confirmed)).toBeDefined();
      await fleet.settled();
      expect(await fleet.manager.getSecretValue(CREDENTIALS)).toMatchObject({ versionId: previousVersionId });
      expect(await logIn(fleet.servers.target, before)).toBe(before.username);
      expect(await logIn(fleet.servers.target, made)).toBeUndefined();
      await allServe();
      for (const process of fleet.processes)
        expect(await process.health()).toMatchObject({
          status: 'up',
          secrets: { [CREDENTIALS]: { versionId: previousVersionId, rolledBack: true } },
        });
      const { failed } = judgeQueries(fleet.started, fleet.leaseMs);
      // What was in flight when the credential went bad, and what the bad one was refused until it was replaced; nothing of another kind.
      expect(failed.filter((failure) => !bad.symptom.test(failure))).toEqual([]);
      expect(await fleet.proof()).toMatchObject({
        outcomes: { promoted: 2, 'rolled-back': 1 },
        concurrentRotators: [],
        earlyRetirements: [],
      });
      // The next rotation goes through, once what spoiled it is gone.
      await bad.mend(fleet.servers.target, made.username);
      const next = await rotating.rotate();
      expect(await logIn(fleet.servers.target, await valueOf(next.versionId))).toBeDefined();
    },
    120_000,
  );
});
