import assert from 'node:assert/strict';
import { isSecretsError } from '@nestjs-secrets/core';
import { bytes, increment, put, putAll, revisionOf, text, VALUE_LIMIT, type OneDriver } from './steps.js';

export function conditions(one: OneDriver): void {
  one('commits when every condition holds', async (driver) => {
    const a = await put(driver, 'a', 'first');
    const revision = await driver.commit({
      conditions: [
        { key: 'a', revision: a },
        { key: 'absent', revision: 0 },
      ],
      writes: [{ key: 'b', value: bytes('new') }],
    });
    assert.equal(typeof revision, 'number');
    assert.equal(text(await driver.get('b')), 'new');
  });

  one('does nothing at all when one condition does not hold', async (driver) => {
    const a = await put(driver, 'a', 'a1');
    const b = await put(driver, 'b', 'b1');
    const before = await driver.revision();
    const attempts = [
      [
        { key: 'a', revision: a },
        { key: 'b', revision: b + 1 },
      ],
      [
        { key: 'b', revision: a },
        { key: 'a', revision: a },
      ],
      [{ key: 'a', revision: 0 }],
      [{ key: 'absent', revision: a }],
    ];
    for (const failing of attempts) {
      const result = await driver.commit({
        conditions: failing,
        writes: [
          { key: 'a', value: null },
          { key: 'b', value: bytes('b2') },
          { key: 'c', value: bytes('c1') },
        ],
      });
      assert.equal(result, undefined);
    }
    assert.equal(text(await driver.get('a')), 'a1');
    assert.equal(text(await driver.get('b')), 'b1');
    assert.equal(await driver.get('c'), undefined);
    assert.equal(await driver.revision(), before);
  });

  one('judges two hundred conditions, each of which counts', async (driver) => {
    const keys = Array.from({ length: 200 }, (_, index) => `many/${index}`);
    await putAll(driver, keys);
    const revision = await revisionOf(driver, 'many/0');
    const all = keys.map((key) => ({ key, revision }));
    for (const at of [0, 99, 127, 199]) {
      const oneFails = all.map((condition, index) => (index === at ? { ...condition, revision: 0 } : condition));
      assert.equal(await driver.commit({ conditions: oneFails, writes: [{ key: 'b', value: bytes('b') }] }), undefined);
    }
    assert.equal(await driver.get('b'), undefined);
    const writes = keys.map((key) => ({ key, value: bytes('second') }));
    assert.equal(typeof (await driver.commit({ conditions: all, writes })), 'number');
    assert.equal(
      await driver.commit({ conditions: all, writes }),
      undefined,
      'the second of two equal commits is late',
    );
    const entries = await driver.list({ prefix: 'many/', limit: 1000 });
    assert.deepEqual(new Set(entries.map(text)), new Set(['second']));
  });

  one('judges conditions without writing', async (driver) => {
    const a = await put(driver, 'a', 'a1');
    assert.equal(await driver.commit({ conditions: [{ key: 'a', revision: a }], writes: [] }), await driver.revision());
    assert.equal(await driver.commit({ conditions: [{ key: 'a', revision: 0 }], writes: [] }), undefined);
    assert.equal(await driver.commit({ conditions: [], writes: [] }), await driver.revision());
    assert.equal(await driver.revision(), a, 'a commit that writes nothing does not move the revision');
  });

  one('lets exactly one of several writers create a key', async (driver) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        driver.commit({ conditions: [{ key: 'a', revision: 0 }], writes: [{ key: 'a', value: bytes(String(index)) }] }),
      ),
    );
    const winners = results.flatMap((result, index) => (result === undefined ? [] : [index]));
    assert.equal(winners.length, 1);
    assert.equal(text(await driver.get('a')), String(winners[0]));
  });

  one('loses none of many concurrent increments', async (driver) => {
    await Promise.all(Array.from({ length: 8 }, () => increment(driver, 'counter', 10)));
    assert.equal(text(await driver.get('counter')), '80');
  });

  one('judges concurrent commits on several keys as if one came after the other', async (driver) => {
    await putAll(driver, ['x', 'y']);
    // Each may take its own key away only while the other's is there: after any order of the two, one key is left.
    const [x, y] = [await revisionOf(driver, 'x'), await revisionOf(driver, 'y')];
    const both = [
      { key: 'x', revision: x },
      { key: 'y', revision: y },
    ];
    const results = await Promise.all([
      driver.commit({ conditions: both, writes: [{ key: 'x', value: null }] }),
      driver.commit({ conditions: both, writes: [{ key: 'y', value: null }] }),
    ]);
    assert.equal(results.filter((result) => result !== undefined).length, 1);
    assert.equal((await driver.list({ prefix: '', limit: 10 })).length, 1);
  });
}

export function revisions(one: OneDriver): void {
  one('starts at revision 0 and grows with every commit that writes', async (driver) => {
    assert.equal(await driver.revision(), 0);
    let last = 0;
    for (const value of ['a1', 'a2', null, 'a3']) {
      const revision = await driver.commit({
        conditions: [],
        writes: [{ key: 'a', value: value === null ? null : bytes(value) }],
      });
      assert.ok(revision !== undefined && Number.isSafeInteger(revision) && revision > last, 'the revision grows');
      assert.equal(await driver.revision(), revision);
      last = revision;
    }
  });

  one('gives all entries of a commit its revision and leaves the others alone', async (driver) => {
    const first = await put(driver, 'untouched', 'x');
    const second = await driver.commit({
      conditions: [],
      writes: [
        { key: 'a', value: bytes('a') },
        { key: 'b', value: bytes('b') },
      ],
    });
    assert.equal(await revisionOf(driver, 'a'), second);
    assert.equal(await revisionOf(driver, 'b'), second);
    assert.equal(await revisionOf(driver, 'untouched'), first);
  });

  one('never gives a revision twice, also when a key is made again', async (driver) => {
    const first = await put(driver, 'a', 'first');
    await driver.commit({ conditions: [], writes: [{ key: 'a', value: null }] });
    const again = await put(driver, 'a', 'first');
    assert.ok(again > first);
    const stale = await driver.commit({
      conditions: [{ key: 'a', revision: first }],
      writes: [{ key: 'a', value: null }],
    });
    assert.equal(stale, undefined, 'a condition on the entry of before the removal does not hold');
    const concurrent = await Promise.all(Array.from({ length: 20 }, (_, index) => put(driver, `k${index}`, 'v')));
    assert.equal(new Set([first, again, ...concurrent]).size, 22);
  });
}

export function limits(one: OneDriver): void {
  const refused = async (action: () => Promise<unknown>): Promise<void> => {
    await assert.rejects(action, (error) => isSecretsError(error, 'STORE_REQUEST_INVALID'));
  };
  const value = bytes('value-of-a-refused-request');

  one('refuses keys out of range with STORE_REQUEST_INVALID', async (driver) => {
    for (const key of [
      '',
      'k'.repeat(513),
      'with space',
      'tab\t',
      'new\nline',
      'ende\n',
      'é',
      '\u007f',
      '\0',
      'a\0b',
      '🔑',
    ]) {
      await refused(() => driver.get(key));
      await refused(() => driver.commit({ conditions: [], writes: [{ key, value }] }));
      await refused(() => driver.commit({ conditions: [{ key, revision: 0 }], writes: [] }));
      if (key === '') continue;
      await refused(() => driver.list({ prefix: key, limit: 1 }));
      await refused(() => driver.list({ prefix: '', after: key, limit: 1 }));
    }
    assert.equal(await driver.revision(), 0);
  });

  one('refuses limits, revisions and values out of range with STORE_REQUEST_INVALID', async (driver) => {
    for (const limit of [0, -1, 1001, 1.5, Number.NaN]) await refused(() => driver.list({ prefix: '', limit }));
    for (const revision of [-1, 0.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1]) {
      await refused(() => driver.commit({ conditions: [{ key: 'a', revision }], writes: [] }));
    }
    await refused(() =>
      driver.commit({ conditions: [], writes: [{ key: 'a', value: new Uint8Array(VALUE_LIMIT + 1) }] }),
    );
    assert.equal(await driver.revision(), 0);
  });

  one('refuses a commit that writes a key twice, and does nothing of it', async (driver) => {
    const writes = [
      { key: 'a', value },
      { key: 'b', value },
      { key: 'a', value: null },
    ];
    await refused(() => driver.commit({ conditions: [], writes }));
    assert.equal(await driver.get('b'), undefined);
    assert.equal(await driver.revision(), 0);
  });

  one('shows nothing of a value in the error of a refused request', async (driver) => {
    const error: unknown = await driver
      .commit({ conditions: [], writes: [{ key: 'no key', value }] })
      .catch((e: unknown) => e);
    assert.ok(error instanceof Error);
    assert.doesNotMatch(`${error.message} ${error.stack} ${JSON.stringify(error)}`, /refused-request|cmVmdXNlZC/);
  });
}
