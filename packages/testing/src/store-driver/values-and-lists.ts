import assert from 'node:assert/strict';
import type { StoreEntry } from '@nestjs-secrets/core';
import { byBytes, bytes, keysOf, put, putAll, text, VALUE_LIMIT, type OneDriver } from './steps.js';

export function readingAndWriting(one: OneDriver): void {
  one('has a name', async (driver) => {
    assert.equal(typeof driver.name, 'string');
    assert.notEqual(driver.name, '');
  });

  one('returns what was put, and nothing for a key never written', async (driver) => {
    const revision = await put(driver, 'a', 'first');
    const entry = await driver.get('a');
    assert.equal(entry?.key, 'a');
    assert.equal(text(entry), 'first');
    assert.equal(entry?.revision, revision);
    assert.equal(await driver.get('b'), undefined);
    assert.equal(await driver.get('A'), undefined, 'keys differ by case');
  });

  one('replaces and removes values', async (driver) => {
    await put(driver, 'a', 'first');
    await put(driver, 'a', 'second');
    assert.equal(text(await driver.get('a')), 'second');
    assert.equal(typeof (await driver.commit({ conditions: [], writes: [{ key: 'a', value: null }] })), 'number');
    assert.equal(await driver.get('a'), undefined);
    assert.deepEqual(await keysOf(driver, ''), []);
  });

  one('takes the removal of a key that is not there', async (driver) => {
    const revision = await driver.commit({ conditions: [], writes: [{ key: 'a', value: null }] });
    assert.equal(typeof revision, 'number');
    assert.equal(await driver.get('a'), undefined);
  });

  one('keeps values byte for byte: every byte, none, and the largest', async (driver) => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, index) => index);
    const notText = Uint8Array.of(0xff, 0xfe, 0x00, 0xc3, 0x28, 0x5c, 0x78, 0x00);
    const largest = Uint8Array.from({ length: VALUE_LIMIT }, (_, index) => (index * 31 + (index >> 8)) & 0xff);
    const values = { everyByte, notText, largest, empty: new Uint8Array(0) };
    const writes = Object.entries(values).map(([key, value]) => ({ key, value }));
    await driver.commit({ conditions: [], writes });
    for (const { key, value } of writes) {
      const entry = await driver.get(key);
      assert.ok(entry?.value instanceof Uint8Array, `${key} comes back as a Uint8Array`);
      assert.equal(Buffer.compare(entry.value, value), 0, `${key} comes back as it was put`);
    }
  });

  one('takes a value that is a view into a larger buffer', async (driver) => {
    const whole = bytes('before-inside-after');
    await driver.commit({ conditions: [], writes: [{ key: 'a', value: whole.subarray(7, 13) }] });
    assert.equal(text(await driver.get('a')), 'inside');
  });

  one('copies bytes in and out', async (driver) => {
    const value = bytes('original');
    const committed = driver.commit({ conditions: [], writes: [{ key: 'a', value }] });
    value.fill(0);
    await committed;
    (await driver.get('a'))?.value.fill(0);
    (await driver.list({ prefix: 'a', limit: 1 }))[0]?.value.fill(0);
    assert.equal(text(await driver.get('a')), 'original', 'neither the caller nor a reader can change what is stored');
  });

  one('takes every character a key may have, and means it literally', async (driver) => {
    const characters = Array.from({ length: 94 }, (_, index) => String.fromCharCode(33 + index));
    const keys = [...characters, characters.join(''), "';--", '"a"', '100%', 'a_b', 'a\\b', '$1', '?1', ':a', '[a]*'];
    await driver.commit({ conditions: [], writes: keys.map((key) => ({ key, value: bytes(key) })) });
    for (const key of keys) assert.equal(text(await driver.get(key)), key);
    assert.equal((await driver.list({ prefix: '', limit: 1000 })).length, new Set(keys).size);
  });

  one('takes keys of 512 characters', async (driver) => {
    const key = 'k'.repeat(512);
    await put(driver, key, 'long');
    await put(driver, `${key.slice(1)}m`, 'other');
    assert.equal(text(await driver.get(key)), 'long');
  });
}

export function listing(one: OneDriver): void {
  one('lists in the order of bytes', async (driver) => {
    const keys = ['~', 'b', 'B', 'a/', 'a', 'a0', 'a-', 'a.b', 'A', 'a_', '_', '!', '10', '9', 'a/b', 'aa', 'a/B'];
    await putAll(driver, keys);
    assert.deepEqual(await keysOf(driver, ''), keys.toSorted(byBytes));
  });

  one('lists by prefix, which is never a pattern', async (driver) => {
    await putAll(driver, ['a', 'a/1', 'a/2', 'a0', 'A/1', 'b', 'a%x', 'a_x', 'a\\x', 'axx', 'a~', 'a~x', '~', '~~']);
    assert.deepEqual(await keysOf(driver, 'a/'), ['a/1', 'a/2']);
    assert.deepEqual(await keysOf(driver, 'a'), ['a', 'a%x', 'a/1', 'a/2', 'a0', 'a\\x', 'a_x', 'axx', 'a~', 'a~x']);
    assert.deepEqual(await keysOf(driver, 'a%'), ['a%x']);
    assert.deepEqual(await keysOf(driver, 'a_'), ['a_x']);
    assert.deepEqual(await keysOf(driver, 'a\\'), ['a\\x']);
    assert.deepEqual(await keysOf(driver, 'a~'), ['a~', 'a~x']);
    assert.deepEqual(await keysOf(driver, '~'), ['~', '~~']);
    assert.deepEqual(await keysOf(driver, 'nothing'), []);
  });

  one('lists after a cursor, which need not be there nor have the prefix', async (driver) => {
    await putAll(driver, ['a', 'b/1', 'b/2', 'b/3', 'c']);
    assert.deepEqual(await keysOf(driver, 'b/', 'b/1'), ['b/2', 'b/3']);
    assert.deepEqual(await keysOf(driver, 'b/', 'b/11'), ['b/2', 'b/3']);
    assert.deepEqual(await keysOf(driver, 'b/', 'a'), ['b/1', 'b/2', 'b/3']);
    assert.deepEqual(await keysOf(driver, 'b/', 'b/3'), []);
    assert.deepEqual(await keysOf(driver, 'b/', 'c'), []);
    assert.deepEqual(await keysOf(driver, '', 'b/2'), ['b/3', 'c']);
  });

  one('pages through everything, once', async (driver) => {
    const keys = Array.from({ length: 103 }, (_, index) => `page/${index}`);
    await putAll(driver, [...keys, 'other']);
    const seen: string[] = [];
    let page: StoreEntry[] = [];
    do {
      page = await driver.list({ prefix: 'page/', after: seen.at(-1), limit: 10 });
      seen.push(...page.map((entry) => entry.key));
      assert.ok(
        page.length <= 10 && seen.length <= keys.length,
        'a page holds no more than its limit, and nothing twice',
      );
    } while (page.length === 10);
    assert.deepEqual(seen, keys.toSorted(byBytes));
  });

  one('lists whole entries', async (driver) => {
    const revision = await put(driver, 'a', 'value');
    const [entry] = await driver.list({ prefix: '', limit: 1000 });
    assert.equal(entry?.key, 'a');
    assert.equal(text(entry), 'value');
    assert.equal(entry?.revision, revision);
  });

  one('lists a thousand entries at once', async (driver) => {
    await putAll(
      driver,
      Array.from({ length: 1001 }, (_, index) => `many/${index}`),
    );
    assert.equal((await driver.list({ prefix: 'many/', limit: 1000 })).length, 1000);
  });

  one('lists as of one moment while commits go on', async (driver) => {
    const keys = Array.from({ length: 20 }, (_, index) => `pair/${String(index).padStart(2, '0')}`);
    const writeAll = (round: number): Promise<unknown> =>
      driver.commit({ conditions: [], writes: keys.map((key) => ({ key, value: bytes(String(round)) })) });
    await writeAll(0);
    const writeOn = async (): Promise<void> => {
      for (let round = 1; round <= 40; round++) await writeAll(round);
    };
    const readOn = async (): Promise<void> => {
      for (let reading = 0; reading < 40; reading++) {
        const values = (await driver.list({ prefix: 'pair/', limit: 100 })).map(text);
        assert.equal(new Set(values).size, 1, 'all entries of one commit are seen together');
      }
    };
    await Promise.all([writeOn(), readOn()]);
  });
}
