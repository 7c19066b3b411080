import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  bytes,
  increment,
  put,
  putAll,
  revisionOf,
  text,
  VALUE_LIMIT,
  type Hear,
  type SeveralDrivers,
} from './steps.js';

export function sharing(several: SeveralDrivers, hear: Hear): void {
  several('keeps everything over close and open', async (connect) => {
    const before = await connect();
    const largest = new Uint8Array(VALUE_LIMIT).fill(7);
    await before.commit({ conditions: [], writes: [{ key: 'large', value: largest }] });
    const revision = await put(before, 'a', 'value');
    await put(before, 'gone', 'value');
    const last = await before.commit({ conditions: [], writes: [{ key: 'gone', value: null }] });
    await before.close();
    const after = await connect();
    assert.equal(await after.revision(), last);
    assert.equal(text(await after.get('a')), 'value');
    assert.equal(await revisionOf(after, 'a'), revision);
    assert.equal(await after.get('gone'), undefined);
    assert.equal(Buffer.compare((await after.get('large'))?.value ?? new Uint8Array(0), largest), 0);
    assert.ok((await put(after, 'b', 'value')) > (last ?? Infinity));
  });

  several('shows a commit to the other driver as soon as it is acknowledged', async (connect) => {
    const [here, there] = [await connect(), await connect()];
    for (let round = 0; round < 10; round++) {
      const revision = await put(here, 'a', String(round));
      assert.equal(text(await there.get('a')), String(round));
      assert.equal(await there.revision(), revision);
    }
    assert.equal(
      await there.commit({ conditions: [{ key: 'a', revision: 0 }], writes: [{ key: 'a', value: null }] }),
      undefined,
    );
  });

  several('loses no increment of two drivers', async (connect) => {
    const drivers = [await connect(), await connect()];
    await Promise.all(drivers.flatMap((driver) => [1, 2, 3].map(() => increment(driver, 'counter', 10))));
    for (const driver of drivers) assert.equal(text(await driver.get('counter')), '60');
  });

  several('never gives one revision to commits of two drivers', async (connect) => {
    const drivers = [await connect(), await connect()];
    const revisions = await Promise.all(
      drivers.flatMap((driver, at) => Array.from({ length: 20 }, (_, index) => put(driver, `${at}/${index}`, 'value'))),
    );
    assert.equal(new Set(revisions).size, 40);
    assert.equal(await drivers[0]?.revision(), Math.max(...revisions));
  });

  several('lists as of one moment while the other driver commits', async (connect) => {
    const [writer, reader] = [await connect(), await connect()];
    const keys = ['pair/a', 'pair/b', 'pair/c'];
    const writeAll = (round: number): Promise<unknown> =>
      writer.commit({ conditions: [], writes: keys.map((key) => ({ key, value: bytes(String(round)) })) });
    await writeAll(0);
    const reading = new AbortController();
    const writeOn = async (): Promise<void> => {
      for (let round = 1; round <= 40; round++) await writeAll(round);
    };
    const readOn = async (): Promise<void> => {
      while (!reading.signal.aborted) {
        // A driver may answer without a turn of the event loop, which the writer may need.
        await nextTurn();
        const entries = await reader.list({ prefix: 'pair/', limit: 100 });
        assert.equal(new Set(entries.map(text)).size, 1, 'all entries of one commit are seen together');
      }
    };
    await Promise.all([writeOn().finally(() => reading.abort()), readOn()]);
  });

  several('hints at commits of the other driver', async (connect) => {
    const [here, there] = [await connect(), await connect()];
    const heard = hear(here);
    await put(there, 'a', 'value');
    await heard.of('a');
    await put(here, 'b', 'value');
    await put(there, 'c', 'value');
    await heard.of('c');
  });

  several('hints a narrowed watch at commits of the other driver', async (connect) => {
    const [here, there] = [await connect(), await connect()];
    const secrets = hear(here, ['secret/']);
    await put(there, 'secret/A', 'value');
    await secrets.of('secret/A');
    const instances = hear(here, ['instance/']);
    await put(there, 'instance/1', 'value');
    await instances.of('instance/1');
    await there.commit({ conditions: [], writes: [{ key: 'secret/A', value: null }] });
    await secrets.of('secret/A');
  });

  several('hints at large commits of the other driver', async (connect) => {
    const [here, there] = [await connect(), await connect()];
    const everything = hear(here);
    const narrowed = hear(here, ['secret/']);
    const keys = Array.from({ length: 300 }, (_, index) => `secret/${'x'.repeat(100)}/${index}`);
    await putAll(there, [...keys, 'instance/1']);
    await everything.of('instance/1');
    await narrowed.of(keys.at(-1) ?? '');
  });

  several('opens an empty store from several drivers at once', async (connect) => {
    const drivers = await Promise.all([connect(), connect(), connect(), connect()]);
    await Promise.all(drivers.map((driver) => increment(driver, 'counter', 5)));
    assert.equal(text(await drivers[0]?.get('counter')), '20');
  });
}
