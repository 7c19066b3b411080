import { describe, expect, it } from '@jest/globals';
import { runChaos } from 'nestjs-secrets-test/chaos/chaos-run';

describe('the chaos program', () => {
  it('I2 I5 I6: three processes survive 20 s of faults, a rotation a second, without a failed query', async () => {
    const report = await runChaos({ seconds: 20, processes: 3, seed: 11 });
    expect(report).toMatchObject({
      violations: [],
      failedOnSurvivors: 0,
      concurrentRotators: 0,
      earlyRetirements: 0,
      livingOldCredentials: 0,
      lostWrites: 0,
      hung: 0,
    });
    expect(report.queries).toBeGreaterThan(0);
    expect(report.rotations).toBeGreaterThan(1);
    expect(report.credentialsTried).toBeGreaterThanOrEqual(report.retirements);
    expect(Object.keys(report.faults)).not.toEqual([]);
  }, 240_000);
});
