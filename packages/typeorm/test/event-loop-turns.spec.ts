import { describe, expect, it } from '@jest/globals';
import { CommitQueue } from '../src/commit-queue.js';
import { sparingTurns } from '../src/event-loop-turns.js';

/** Whether the event loop came round before `work` was over. */
async function takesTurn(work: () => Promise<void>): Promise<boolean> {
  let cameRound = false;
  const immediate = setImmediate(() => (cameRound = true));
  await work();
  clearImmediate(immediate);
  return cameRound;
}

describe('turns of the event loop for a database within the process', () => {
  it('are spared for one who is alone', async () => {
    let now = 0;
    const gather = sparingTurns(() => now);
    expect(await takesTurn(() => gather(false))).toBe(true);
    now = 1.9;
    expect(await takesTurn(() => gather(false))).toBe(false);
  });

  it('are taken where the last batch was shared, and after two milliseconds', async () => {
    let now = 0;
    const gather = sparingTurns(() => now);
    await gather(false);
    expect(await takesTurn(() => gather(true))).toBe(true);
    now = 2;
    expect(await takesTurn(() => gather(false))).toBe(true);
    expect(await takesTurn(() => gather(false))).toBe(false);
  });

  it('let commits of callers that work side by side share their transactions', async () => {
    const sizes: number[] = [];
    const queue = new CommitQueue(
      async (commits) => {
        sizes.push(commits.length);
        return commits.map(() => sizes.length);
      },
      sparingTurns(() => 0),
    );
    const caller = async (): Promise<void> => {
      for (let count = 0; count < 50; count += 1) await queue.add({ conditions: [], writes: [] });
    };
    await Promise.all(Array.from({ length: 32 }, caller));
    expect(sizes.length).toBeLessThanOrEqual(55);
    expect(sizes.reduce((sum, size) => sum + size)).toBe(50 * 32);
  });
});
