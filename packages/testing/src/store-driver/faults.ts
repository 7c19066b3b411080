import assert from 'node:assert/strict';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { isSecretsError, type StoreDriver } from '@nestjs-secrets/core';
import type { ConformanceStore, Mend, StoreFault } from './conformance-store.js';
import { bytes, increment, put, text, type FaultyStore, type Hear } from './steps.js';

/** A call that has no outcome after this time hangs; and so long a store may take to be itself again. Milliseconds. */
const PATIENCE_MS = 60_000;
const CRASHES = 3;
const WRITERS = 4;
const KEYS = ['a', 'b', 'c'];

/** What holds while the server of a store is away, and when it is back. */
export function faults(faulty: FaultyStore, hear: Hear, have: readonly StoreFault[]): void {
  if (have.includes('cut-off')) {
    for (const how of ['refused', 'silent'] as const) {
      faulty(
        `refuses every call with STORE_UNAVAILABLE while nobody reaches its server (${how}), and then works again`,
        (store, connect) => outage(store, connect, how),
      );
      faulty(`brings its watches back after its server was out of reach (${how})`, async (store, connect) => {
        const [here, there] = [await connect(), await connect()];
        const heard = hear(here);
        const narrowed = hear(here, ['secret/']);
        await put(there, 'secret/A', 'before');
        for (const hearing of [heard, narrowed]) await hearing.of('secret/A');
        const mend = await cutOff(store, how);
        for (const driver of [here, there]) await refused(driver);
        await mend();
        // Nobody can tell what has been committed meanwhile: all is to be looked at, without a commit that would remind of it.
        for (const hearing of [heard, narrowed]) await hearing.of('secret/not/named/by/any/hint');
        await workingAgain(there);
        await put(there, 'secret/B', 'after');
        for (const hearing of [heard, narrowed]) await hearing.of('secret/B');
      });
    }
    faulty('can be closed while nobody reaches its server', async (store, connect) => {
      for (const how of ['refused', 'silent'] as const) {
        const driver = await connect();
        driver.watch(() => undefined);
        await put(driver, 'a', 'value');
        const mend = await cutOff(store, how);
        const calls = everyCall(driver).map((call) => call.then(undefined, (error: unknown) => error));
        await within('close', driver.close());
        await within('every call', Promise.all(calls));
        await mend();
      }
    });
  }
  if (have.includes('crash')) {
    faulty('keeps what it acknowledged, whole, over crashes of its server', crashes);
  }
}

async function outage(
  store: ConformanceStore,
  connect: () => Promise<StoreDriver>,
  how: 'refused' | 'silent',
): Promise<void> {
  const driver = await connect();
  const revision = await put(driver, 'a', 'before');
  const mend = await cutOff(store, how);
  await refused(driver);
  await mend();
  await workingAgain(driver);
  assert.ok((await driver.revision()) >= revision, 'the revision has not fallen');
  await increment(driver, 'counter', 3);
  assert.equal(text(await driver.get('counter')), '3');
}

/** Commits without a pause until the server is killed; what was acknowledged must be there, and of the rest all of a commit or nothing. */
async function crashes(store: ConformanceStore, connect: () => Promise<StoreDriver>): Promise<void> {
  const drivers = [await connect(), await connect()];
  const writers = Array.from({ length: WRITERS }, (_, at) => new CrashWriter(`crash/${at}`));
  let highest = 0;
  for (let round = 0; round < CRASHES; round++) {
    const writing = Promise.all(writers.map((writer, at) => writer.writeOn(drivers[at % drivers.length])));
    await Promise.race([writing, until('commits', () => writers.every(({ fresh }) => fresh > 2 * (round + 1)))]);
    const mend = await crash(store);
    await within('every commit', writing);
    await mend();
    const reader = await within('a new driver', eventuallyOpen(connect));
    highest = Math.max(highest, ...writers.map((writer) => writer.acknowledged.revision));
    assert.ok((await reader.revision()) >= highest, 'the revision has not fallen');
    for (const writer of writers) await writer.check(reader);
    for (const driver of drivers) await workingAgain(driver);
  }
}

class CrashWriter {
  /** What the latest commit with an answer put, and its revision. */
  acknowledged = { count: 0, revision: 0 };
  #attempted = 0;
  /** Commits with an answer since the last crash. */
  fresh = 0;

  constructor(private readonly prefix: string) {}

  async writeOn(driver: StoreDriver | undefined): Promise<void> {
    assert.ok(driver !== undefined);
    this.fresh = 0;
    for (;;) {
      // A driver may answer without a turn of the event loop, which whoever ends this needs.
      await nextTurn();
      this.#attempted += 1;
      const count = this.#attempted;
      const writes = KEYS.map((key) => ({ key: `${this.prefix}/${key}`, value: bytes(String(count)) }));
      // One comes and goes, so that a removal that was acknowledged is looked for as well.
      const odd = { key: `${this.prefix}/odd`, value: count % 2 === 1 ? bytes(String(count)) : null };
      try {
        const revision = await driver.commit({ conditions: [], writes: [...writes, odd] });
        assert.ok(revision !== undefined);
        this.acknowledged = { count, revision };
        this.fresh += 1;
      } catch (error) {
        assert.ok(isSecretsError(error, 'STORE_UNAVAILABLE'), 'a commit is done, or its outcome is unknown');
        return;
      }
    }
  }

  async check(reader: StoreDriver): Promise<void> {
    const { count, revision } = this.acknowledged;
    const entries = await reader.list({ prefix: `${this.prefix}/`, limit: 10 });
    const [first, ...others] = entries;
    const stored = Number(text(first));
    assert.ok(stored === count || stored === this.#attempted, `what was acknowledged is there: ${stored} for ${count}`);
    if (stored === count) assert.equal(first?.revision, revision, 'with the revision it was acknowledged with');
    for (const other of others) assert.equal(Number(text(other)), stored, 'all of a commit is there');
    const odd = stored % 2 === 1 ? ['odd'] : [];
    assert.deepEqual(
      Array.from(entries, ({ key }) => key.slice(this.prefix.length + 1)),
      [...KEYS, ...odd],
    );
  }
}

function everyCall(driver: StoreDriver): Promise<unknown>[] {
  return [
    driver.get('a'),
    driver.list({ prefix: '', limit: 10 }),
    driver.revision(),
    put(driver, 'during', 'the outage'),
    driver.commit({ conditions: [{ key: 'a', revision: 0 }], writes: [] }),
  ];
}

/** Several times over, so that each connection a driver may have meets the outage. */
async function refused(driver: StoreDriver): Promise<void> {
  for (let round = 0; round < 2; round++) {
    const results = await within('every call', Promise.allSettled([...everyCall(driver), ...everyCall(driver)]));
    for (const result of results) {
      assert.equal(result.status, 'rejected', 'nothing is answered while nobody reaches the server');
      assert.ok(isSecretsError(result.reason, 'STORE_UNAVAILABLE'), 'and the error says what it is');
    }
  }
}

async function workingAgain(driver: StoreDriver): Promise<void> {
  // A connection that died without a word may cost a call.
  await until('a store that works again', async () => {
    const results = await Promise.allSettled([driver.get('a'), driver.revision(), put(driver, 'again', 'value')]);
    return results.every(({ status }) => status === 'fulfilled');
  });
}

async function eventuallyOpen(connect: () => Promise<StoreDriver>): Promise<StoreDriver> {
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      assert.ok(isSecretsError(error, 'STORE_UNAVAILABLE'));
      await pause(20);
    }
  }
}

function cutOff(store: ConformanceStore, how: 'refused' | 'silent'): Promise<Mend> {
  assert.ok(store.cutOff !== undefined, 'a store with the fault cut-off has cutOff()');
  return store.cutOff(how);
}

function crash(store: ConformanceStore): Promise<Mend> {
  assert.ok(store.crash !== undefined, 'a store with the fault crash has crash()');
  return store.crash();
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `${what} came within ${PATIENCE_MS} ms`);
    await pause(5);
  }
}

async function within<R>(what: string, work: Promise<R>): Promise<R> {
  const limit = new AbortController();
  const late = pause(PATIENCE_MS, undefined, { signal: limit.signal, ref: false }).then(
    () => assert.fail(`${what} did not come about within ${PATIENCE_MS} ms`),
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    limit.abort();
  }
}
