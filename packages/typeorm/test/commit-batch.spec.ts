import { describe, expect, it } from '@jest/globals';
import { judgeBatch } from '../src/commit-batch.js';

const value = Buffer.from('value');
const stored = new Map([['a', 5]]);
const judge = (commits: Parameters<typeof judgeBatch>[0]) => judgeBatch(commits, 7, (key) => stored.get(key) ?? 0);

describe('judgeBatch', () => {
  it('lets a later commit see what an earlier one wrote', () => {
    const { outcomes, writes, revision } = judge([
      { conditions: [{ key: 'a', revision: 5 }], writes: [{ key: 'a', value }] },
      { conditions: [{ key: 'a', revision: 5 }], writes: [{ key: 'b', value }] },
      { conditions: [{ key: 'a', revision: 8 }], writes: [{ key: 'a', value: null }] },
      { conditions: [{ key: 'a', revision: 0 }], writes: [{ key: 'c', value }] },
    ]);
    expect(outcomes).toEqual([8, undefined, 9, 10]);
    expect(revision).toBe(10);
    expect(writes).toEqual([
      { key: 'a', value: null, revision: 9 },
      { key: 'c', value, revision: 10 },
    ]);
  });

  it('moves no revision for commits that write nothing or do not hold', () => {
    const { outcomes, writes, revision } = judge([
      { conditions: [{ key: 'a', revision: 5 }], writes: [] },
      { conditions: [{ key: 'x', revision: 1 }], writes: [{ key: 'x', value }] },
    ]);
    expect(outcomes).toEqual([7, undefined]);
    expect(revision).toBe(7);
    expect(writes).toEqual([]);
  });
});
