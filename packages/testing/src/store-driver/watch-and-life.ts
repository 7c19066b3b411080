import assert from 'node:assert/strict';
import { isSecretsError, type StoreDriver } from '@nestjs-secrets/core';
import { bytes, put, text, type FreshStore, type Hear, type OneDriver } from './steps.js';

export function hints(one: OneDriver, hear: Hear): void {
  one('hints at its own commits', async (driver) => {
    const heard = hear(driver);
    await put(driver, 'a', 'value');
    await heard.of('a');
  });

  one('hints nobody whose watch has ended', async (driver) => {
    let calls = 0;
    const end = driver.watch(() => (calls += 1));
    const heard = hear(driver);
    end();
    end();
    await put(driver, 'a', 'value');
    await heard.of('a');
    assert.equal(calls, 0);
  });

  one('gives every watch an end of its own', async (driver) => {
    let calls = 0;
    const listener = (): void => void (calls += 1);
    const end = driver.watch(listener);
    driver.watch(listener);
    end();
    const heard = hear(driver);
    await put(driver, 'a', 'value');
    await heard.of('a');
    assert.ok(calls > 0, 'the second watch of the same function is still there');
  });

  one('commits and hints on when a listener throws', async (driver) => {
    driver.watch(() => {
      throw new Error('of a listener');
    });
    const heard = hear(driver);
    await put(driver, 'a', 'value');
    assert.equal(text(await driver.get('a')), 'value');
    await heard.of('a');
    await put(driver, 'b', 'value');
    await heard.of('b');
  });

  one('hints a narrowed watch at whatever is under one of its prefixes', async (driver) => {
    const heard = hear(driver, ['secret/', 'rotation/My', 'whole-key']);
    for (const key of ['secret/A', 'secret/B/c', 'rotation/MyDbCreds', 'whole-key', 'whole-key/and/more']) {
      await put(driver, 'instance/1', 'of no interest');
      await put(driver, key, 'value');
      await heard.of(key);
    }
    await driver.commit({
      conditions: [],
      writes: [
        { key: 'instance/1', value: null },
        { key: 'secret/A', value: null },
      ],
    });
    await heard.of('secret/A');
  });

  one('narrows no watch but the one that asked for it', async (driver) => {
    const everything = hear(driver);
    const empty = hear(driver, ['']);
    const secrets = hear(driver, ['secret/']);
    const instances = hear(driver, ['instance/']);
    await put(driver, 'secret/A', 'value');
    for (const heard of [everything, secrets, empty]) await heard.of('secret/A');
    await put(driver, 'instance/1', 'value');
    for (const heard of [everything, instances, empty]) await heard.of('instance/1');
  });

  one('hints the narrowed watches that are left when others have ended', async (driver) => {
    const ends = [driver.watch(() => undefined), driver.watch(() => undefined, ['secret/'])];
    const heard = hear(driver, ['secret/', 'instance/']);
    for (const end of ends) end();
    await put(driver, 'secret/A', 'value');
    await heard.of('secret/A');
    await put(driver, 'instance/1', 'value');
    await heard.of('instance/1');
  });

  one('calls no listener from within the commit call', async (driver) => {
    let inCall = true;
    const calledInside: boolean[] = [];
    driver.watch(() => calledInside.push(inCall));
    const heard = hear(driver);
    const committed = put(driver, 'a', 'value');
    inCall = false;
    await committed;
    await heard.of('a');
    assert.ok(!calledInside.includes(true));
  });
}

export function lifeCycle(one: OneDriver, fresh: FreshStore): void {
  const closed = async (driver: StoreDriver): Promise<void> => {
    const isClosed = (error: unknown): boolean => isSecretsError(error, 'STORE_CLOSED');
    await assert.rejects(async () => driver.get('a'), isClosed);
    await assert.rejects(async () => driver.list({ prefix: '', limit: 1 }), isClosed);
    await assert.rejects(async () => driver.revision(), isClosed);
    await assert.rejects(
      async () => driver.commit({ conditions: [], writes: [{ key: 'a', value: bytes('x') }] }),
      isClosed,
    );
    assert.throws(() => driver.watch(() => undefined), isClosed);
  };

  fresh('refuses everything before open and after close with STORE_CLOSED', async (store, drivers) => {
    const driver = store.connect();
    drivers.push(driver);
    await closed(driver);
    await driver.open();
    await put(driver, 'a', 'value');
    await driver.close();
    await closed(driver);
  });

  fresh('can be closed before it was opened, and twice', async (store) => {
    const driver = store.connect();
    await driver.close();
    await driver.close();
  });

  one('can be closed twice, also at once', async (driver) => {
    await Promise.all([driver.close(), driver.close()]);
    await driver.close();
  });

  one('hints nobody any more once it is closed', async (driver) => {
    let calls = 0;
    let isClosed = false;
    driver.watch(() => {
      if (isClosed) calls += 1;
    });
    await put(driver, 'a', 'value');
    await driver.close();
    isClosed = true;
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(calls, 0);
  });

  one('settles every commit that was under way when it closed', async (driver) => {
    const pending = Array.from({ length: 10 }, (_, index) => put(driver, `k${index}`, 'value'));
    const results = await Promise.all([
      ...pending.map((commit) => commit.catch((error: unknown) => error)),
      driver.close(),
    ]);
    for (const result of results.slice(0, -1)) {
      assert.ok(typeof result === 'number' || isSecretsError(result, 'STORE_CLOSED'), 'done, or refused as closed');
    }
  });
}
