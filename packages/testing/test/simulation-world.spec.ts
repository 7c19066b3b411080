import { describe, expect, it } from '@jest/globals';
import { runWorld, simulate, type SimulateOptions } from '@nestjs-secrets/testing';

/** Fails with the way to see what happened in each world that went wrong. */
async function expectNoViolation(options: SimulateOptions): Promise<void> {
  const { schedules, failures } = await simulate(options);
  const more = options.assumptions === 'beyond' ? ' --beyond' : '';
  const told = failures.map(({ seed, violations }) => ({
    replay: `npm run simulate -- --seed ${seed} --schedules 1 --verbose${more}`,
    violations,
  }));
  expect(told).toEqual([]);
  expect(schedules).toBe(options.schedules);
}

describe('the simulated world', () => {
  it('comes to the same end from the same seed, event by event', async () => {
    for (const seed of [1, 7, 12_345, 2 ** 40 + 3]) {
      const [one, other]: [string[], string[]] = [[], []];
      const first = await runWorld(seed, { onTrace: (line) => one.push(line) });
      const second = await runWorld(seed, { onTrace: (line) => other.push(line) });
      expect(one.length).toBeGreaterThan(10);
      expect(other).toEqual(one);
      expect(second).toEqual(first);
      // Looking on changes nothing either.
      expect(await runWorld(seed)).toEqual(first);
    }
  });

  it('is another one for each seed', async () => {
    const fingerprints = new Set<number>();
    for (let seed = 1; seed <= 50; seed += 1) fingerprints.add((await runWorld(seed)).fingerprint);
    expect(fingerprints.size).toBe(50);
  });

  // In pieces, so that one that goes wrong is told of before all are through, and none takes long enough to look hung.
  for (let piece = 0; piece < 10; piece += 1) {
    it(`I1–I6, I9: hold in 5,000 schedules within the assumptions (${piece + 1} of 10)`, async () => {
      await expectNoViolation({ schedules: 5_000, seed: 1 + piece * 5_000 });
    }, 600_000);
  }

  it('I2, I3, I4, I9: hold in 3,000 schedules in which clocks and statements break the assumptions', async () => {
    await expectNoViolation({ schedules: 3_000, seed: 1, assumptions: 'beyond' });
  }, 600_000);
});
