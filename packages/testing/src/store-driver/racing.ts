import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { StoreDriver, StoreEntry } from '@nestjs-secrets/core';
import { bytes, keysOf, put, putAll, text, type OneDriver, type SeveralDrivers } from './steps.js';

const ROUNDS = 15;

/** What holds while several write at once. */
export function racing(one: OneDriver, several: SeveralDrivers): void {
  several('lets one driver win each round on key sets that overlap', async (connect) => {
    const [here, there] = [await connect(), await connect()];
    // Three contenders, any two of which have a key in common.
    const sets = [
      ['race/a', 'race/b'],
      ['race/b', 'race/c'],
      ['race/c', 'race/a'],
    ];
    await putAll(here, ['race/a', 'race/b', 'race/c']);
    for (let round = 0; round < ROUNDS; round++) {
      const before = await here.list({ prefix: 'race/', limit: 10 });
      const results = await Promise.all(
        [here, there].flatMap((driver, at) =>
          sets.map((keys, index) => contend(driver, before, keys, `${round}/${at}/${index}`)),
        ),
      );
      const winners = results.filter((result) => result !== undefined);
      assert.equal(winners.length, 1, 'exactly one contender wins the round');
      const after = await there.list({ prefix: 'race/', limit: 10 });
      const changed = after.filter((entry, index) => entry.revision !== before[index]?.revision);
      assert.deepEqual(
        Array.from(changed, text),
        [winners[0]?.mark, winners[0]?.mark],
        'and only its writes are there',
      );
    }
  });

  several('never shows a revision that falls, to any driver', async (connect) => {
    const drivers = [await connect(), await connect()];
    const writing = new AbortController();
    const write = async (driver: StoreDriver, at: number): Promise<void> => {
      let last = 0;
      for (let count = 0; count < 30; count++) {
        await nextTurn();
        const seen = await driver.revision();
        const revision = await put(driver, `writer/${at}`, String(count));
        assert.ok(revision > seen && revision > last, 'a commit comes after all that its driver has seen');
        last = revision;
      }
    };
    const read = async (driver: StoreDriver): Promise<void> => {
      let last = 0;
      while (!writing.signal.aborted) {
        await nextTurn();
        const revision = await driver.revision();
        assert.ok(revision >= last, 'the revision does not fall');
        last = revision;
        const entries = await driver.list({ prefix: 'writer/', limit: 10 });
        const newest = Math.max(0, ...entries.map((entry) => entry.revision));
        assert.ok(newest >= last, 'what is read is no older than the revision seen before');
        last = newest;
      }
    };
    await Promise.all([Promise.all(drivers.map(write)).finally(() => writing.abort()), ...drivers.map(read)]);
  });

  several('pages through what stays, once and in order, while the other driver writes', async (connect) => {
    const [writer, reader] = [await connect(), await connect()];
    await pageWhileWriting(writer, reader);
  });

  one('pages through what stays, once and in order, while it writes', (driver) => pageWhileWriting(driver, driver));
}

async function contend(
  driver: StoreDriver,
  before: readonly StoreEntry[],
  keys: readonly string[],
  mark: string,
): Promise<{ readonly mark: string } | undefined> {
  const conditions = keys.map((key) => ({ key, revision: before.find((entry) => entry.key === key)?.revision ?? 0 }));
  const revision = await driver.commit({ conditions, writes: keys.map((key) => ({ key, value: bytes(mark) })) });
  return revision === undefined ? undefined : { mark };
}

async function pageWhileWriting(writer: StoreDriver, reader: StoreDriver): Promise<void> {
  const stays = Array.from({ length: 60 }, (_, index) => `page/${String(index).padStart(3, '0')}`);
  await putAll(writer, stays);
  for (let round = 0; round < 3; round++) {
    const seen: string[] = [];
    let page: StoreEntry[] = [];
    do {
      page = await reader.list({ prefix: 'page/', after: seen.at(-1), limit: 7 });
      seen.push(...page.map((entry) => entry.key));
      assert.ok(seen.length < 1000, 'the pages come to an end');
      // Something before the cursor comes, something goes, and something of what stays changes.
      await writer.commit({
        conditions: [],
        writes: [
          { key: `page/0${'!'.repeat(seen.length)}`, value: bytes('comes') },
          { key: `page/0${'!'.repeat(Math.max(1, seen.length - 14))}`, value: null },
          { key: stays[seen.length % stays.length] ?? '', value: bytes('changed') },
        ].filter(({ key }, index, all) => all.findIndex((other) => other.key === key) === index),
      });
    } while (page.length > 0);
    assert.deepEqual(
      seen.filter((key) => stays.includes(key)),
      stays,
      'every key that stays is there once',
    );
    assert.equal(new Set(seen).size, seen.length, 'no key comes twice');
  }
  const all = await keysOf(reader, 'page/');
  for (const key of stays) assert.ok(all.includes(key));
}
