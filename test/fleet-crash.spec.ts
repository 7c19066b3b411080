import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CredentialWatch } from 'nestjs-secrets-test/chaos/credential-watch';
import { CREDENTIALS, Fleet } from 'nestjs-secrets-test/chaos/fleet';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';
import { overlappingChanges } from 'nestjs-secrets-test/chaos/server-log';

let fleet: Fleet;
let watch: CredentialWatch;

beforeAll(async () => {
  fleet = await Fleet.start({ processes: 3, load: { short: 2, transactions: 1, long: 0 } });
  const { target } = fleet.servers;
  watch = new CredentialWatch(fleet.manager, target, target.admin);
  watch.start();
});

afterAll(() => fleet?.close());

/** The first joint commit stores the new version, the second promotes it. */
const POINTS = [
  'before create 1',
  'after create 1',
  'before apply 1',
  'after apply 1',
  'before verify 1',
  'after verify 1',
  'before joint commit 2',
  'after joint commit 2',
  'before retire 1',
  'after retire 1',
];

describe('a rotation whose process is killed with SIGKILL', () => {
  it('I1 I2 I5 I6: is finished by another process, whichever step it was at, and no other query fails', async () => {
    const starts = fleet.processes.map((process) => process.ready);
    for (const [turn, point] of POINTS.entries()) {
      const place = turn % fleet.processes.length;
      await starts[place];
      const before = await fleet.manager.getSecretValue(CREDENTIALS);
      const doomed = fleet.at(place);
      await expect(doomed.rotate({ until: 'retired' }, point)).rejects.toThrow('SIGKILL');
      await fleet.settled();
      const after = await fleet.manager.getSecretValue(CREDENTIALS);
      // One promotion, and not another rotation in the place of the one that was left.
      expect([point, after.versionId]).toEqual([point, `v${Number(before.versionId.slice(1)) + 1}`]);
      starts[place] = fleet.startProcess(place).ready;
    }
    await Promise.all(starts);
    const proof = await fleet.proof();
    expect(proof).toMatchObject({
      outcomes: { promoted: POINTS.length + 1 },
      takeovers: POINTS.length,
      concurrentRotators: [],
      earlyRetirements: [],
    });
    expect(proof.retirements).toHaveLength(POINTS.length);
    expect(await watch.end(proof.retirements)).toEqual([]);
    expect(overlappingChanges(fleet.servers.target.log())).toEqual([]);
    const verdict = judgeQueries(fleet.started, fleet.leaseMs);
    expect(verdict.failed).toEqual([]);
    expect(verdict.succeeded).toBeGreaterThan(0);
  }, 240_000);
});
