import { describe, expect, it } from '@jest/globals';
import type { StoreEntry } from '@nestjs-secrets/core';
import { everyTurn } from '../src/event-loop-turns.js';
import { ReadBatches } from '../src/read-batches.js';

const entry = (key: string): StoreEntry => ({ key, value: Buffer.from(key), revision: 1 });

describe('reads that come together', () => {
  it('share one question, and no bytes', async () => {
    const asked: (readonly string[])[] = [];
    const reads = new ReadBatches(async (keys) => {
      asked.push(keys);
      return keys.filter((key) => key !== 'absent').map(entry);
    }, everyTurn);
    const [first, second, other, absent] = await Promise.all(['a', 'a', 'b', 'absent'].map((key) => reads.get(key)));
    expect(asked).toEqual([['a', 'b', 'absent']]);
    first?.value.fill(0);
    expect(second && Buffer.from(second.value).toString()).toBe('a');
    expect(other).toMatchObject({ key: 'b', revision: 1 });
    expect(absent).toBeUndefined();
  });

  it('never take the answer to an earlier question', async () => {
    let revision = 0;
    const answers: (() => void)[] = [];
    const reads = new ReadBatches(async (keys) => {
      revision += 1;
      const now = revision;
      await new Promise<void>((resolve) => answers.push(resolve));
      return keys.map((key) => ({ ...entry(key), revision: now }));
    }, everyTurn);
    const before = reads.get('a');
    await new Promise((resolve) => setImmediate(resolve));
    const after = reads.get('a');
    await new Promise((resolve) => setImmediate(resolve));
    for (const answer of answers) answer();
    expect([(await before)?.revision, (await after)?.revision]).toEqual([1, 2]);
  });

  it('are cut into questions of a bearable size', async () => {
    const sizes: number[] = [];
    const reads = new ReadBatches(async (keys) => {
      sizes.push(keys.length);
      return keys.map(entry);
    }, everyTurn);
    const keys = Array.from({ length: 150 }, (_, index) => String(index));
    const entries = await Promise.all(keys.map((key) => reads.get(key)));
    expect(entries.map((one) => one?.key)).toEqual(keys);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(64);
  });

  it('fail together', async () => {
    const reads = new ReadBatches(() => Promise.reject(new Error('away')), everyTurn);
    const results = await Promise.allSettled([reads.get('a'), reads.get('a'), reads.get('b')]);
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected', 'rejected']);
  });
});
