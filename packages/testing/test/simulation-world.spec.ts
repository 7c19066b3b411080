import { describe, expect, it } from '@jest/globals';
import { runWorld, simulate } from '@nestjs-secrets/testing';

describe('the simulated world', () => {
  it('comes to the same end from the same seed, event by event', async () => {
    for (const seed of [1, 7, 12_345, 2 ** 40 + 3]) {
      const [one, other]: [string[], string[]] = [[], []];
      const first = await runWorld(seed, { onTrace: (line) => one.push(line) });
      const second = await runWorld(seed, { onTrace: (line) => other.push(line) });
      expect(other).toEqual(one);
      expect(second).toEqual(first);
      // Looking on changes nothing either.
      expect(await runWorld(seed)).toEqual(first);
    }
  });

  it('x', async () => {
    const t = process.cpuUsage();
    await simulate({ schedules: 2000 });
    console.log(process.cpuUsage(t).user / 2e6);
  });
});
