import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  cryptoRandomness,
  ephemeralKeys,
  type KeyProvider,
  memoryStore,
  randomIds,
  type SecretsManager,
  SecretsRuntime,
  type StoreDriver,
  StoreIntegrity,
  systemClock,
} from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { bareDatabase, freshBytes } from './integrity/bare-database.js';
import { fillStore, secretName } from './integrity/fill-store.js';
import { memoryOf } from './integrity/memory-of.js';
import { compare, median, type Row } from './row.js';

const ROUNDS = 11;
const PUTS = 320;
const CALLERS = 64;
const SECRETS = 64;
const WRITERS = 8;
const SUBSCRIBED = 10;
const PAGE = 100;
const PAGES = 20;
const FEWEST_SECRETS = 2 * (PAGES + 1) * PAGE;

/** What the integrity of the store costs: a durable put, the upkeep of the manifest, and a store of many secrets. */
export async function benchIntegrity({ secrets }: { readonly secrets: number }): Promise<Row[]> {
  if (secrets < FEWEST_SECRETS)
    throw new Error(`--secrets is ${FEWEST_SECRETS} at least: pages at both ends of the list must not meet.`);
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  try {
    return [
      ...(await benchPuts(folder)),
      await benchWriters(folder),
      ...(await benchUpkeep(secrets)),
      ...(await benchMany(folder, secrets)),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Whole puts through the manager, sealed, MACed and listed, against bare commits of better-sqlite3 that are as durable. */
async function benchPuts(folder: string): Promise<Row[]> {
  const runtime = await start(sqliteStore({ path: path.join(folder, 'puts.sqlite') }), ephemeralKeys());
  const bare = bareDatabase(path.join(folder, 'bare.sqlite'));
  try {
    const manager = managerOf(runtime);
    await Promise.all(
      Array.from({ length: SECRETS }, (_, index) => manager.createSecret(secretName(index), someValue())),
    );
    const one = (): Promise<number> =>
      rateOf(PUTS, () => putAll(manager, PUTS, (count) => secretName(count % SECRETS)));
    const many = (): Promise<number> =>
      rateOf(PUTS, () =>
        Promise.all(Array.from({ length: CALLERS }, (_, at) => putAll(manager, PUTS / CALLERS, () => secretName(at)))),
      );
    const baseline = (): number => bareRate(() => bare.puts(PUTS));
    const sameRows = (): number => bareRate(() => bare.putsOfSealed(PUTS));
    // Unmeasured, for the compiler.
    for (const warmUp of [one, many, baseline, sameRows]) await warmUp();
    const store = runtime.own?.versions.store;
    const fresh = freshBytes();
    const entry = (count: number) => ({ key: `value/${secretName(count % SECRETS)}:put`, value: fresh(371) });
    const put = async (count: number): Promise<unknown> => store?.commit({ conditions: [], writes: [entry(count)] });
    const sealed = async (): Promise<number> =>
      rateOf(PUTS, async () => {
        for (let count = 0; count < PUTS; count += 1) await put(count);
      });
    const sealedByMany = async (): Promise<number> =>
      rateOf(PUTS, () =>
        Promise.all(
          Array.from({ length: CALLERS }, async (_, at) => {
            for (let count = 0; count < PUTS / CALLERS; count += 1) await put(at);
          }),
        ),
      );
    for (const warmUp of [sealed, sealedByMany]) await warmUp();
    return [
      await compare('integrity: durable put of an entry, one caller', 'put/s', ROUNDS, sealed, baseline),
      await compare('integrity: the same against a raw commit of the same rows', 'put/s', ROUNDS, sealed, sameRows),
      await compare(`integrity: durable put of an entry, ${CALLERS} callers`, 'put/s', ROUNDS, sealedByMany, baseline),
      await compare('integrity: whole putSecretValue, one caller', 'put/s', ROUNDS, one, baseline),
      await compare(`integrity: whole putSecretValue, ${CALLERS} callers`, 'put/s', ROUNDS, many, baseline),
    ];
  } finally {
    await runtime.close();
    bare.close();
  }
}

/** Processes that write to one store compete for the root of its manifest; here each has a connection of its own. */
async function benchWriters(folder: string): Promise<Row> {
  const keys = ephemeralKeys();
  const file = path.join(folder, 'writers.sqlite');
  const runtimes: SecretsRuntime[] = [];
  for (let at = 0; at < WRITERS; at += 1) runtimes.push(await start(sqliteStore({ path: file }), keys));
  try {
    const managers = runtimes.map((runtime) => managerOf(runtime));
    for (let at = 0; at < WRITERS; at += 1) await managers[0]?.createSecret(secretName(at), someValue());
    const each = PUTS / WRITERS;
    const all = (): Promise<number> =>
      rateOf(PUTS, () => Promise.all(managers.map((manager, at) => putAll(manager, each, () => secretName(at)))));
    const single = (): Promise<number> => rateOf(each, () => putAll(managers[0], each, () => secretName(0)));
    return await compare(`integrity: durable put, ${WRITERS} writers against one`, 'put/s', 5, all, single);
  } finally {
    for (const runtime of runtimes) await runtime.close();
  }
}

/** Entries and bytes of a write that lists one more version, at one size against a hundredth of it. */
async function benchUpkeep(secrets: number): Promise<Row[]> {
  const sizes = [secrets / 100, secrets / 10, secrets].map(Math.round);
  const found: { readonly entries: number; readonly bytes: number; readonly micros: number }[] = [];
  for (const size of sizes) found.push(await upkeepAt(size));
  const [smallest] = found;
  return sizes.slice(1).flatMap((size, index) => {
    const here = found[index + 1];
    if (here === undefined || smallest === undefined) return [];
    const row = (what: keyof typeof here, unit: string): Row => ({
      name: `integrity: ${what} a write at ${size} secrets against ${sizes[0]}`,
      value: here[what],
      baseline: smallest[what],
      ratio: here[what] / smallest[what],
      unit,
    });
    return [row('entries', ''), row('bytes', 'B'), row('micros', 'µs')];
  });
}

async function upkeepAt(size: number): Promise<{ entries: number; bytes: number; micros: number }> {
  const inner = memoryStore();
  await inner.open();
  let [entries, bytes] = [0, 0];
  const counting: StoreDriver = {
    name: inner.name,
    open: async () => undefined,
    close: () => inner.close(),
    get: (key) => inner.get(key),
    list: (options) => inner.list(options),
    commit: (commit) => {
      for (const { key, value } of commit.writes) {
        if (!key.startsWith('integrity/')) continue;
        entries += 1;
        bytes += value?.length ?? 0;
      }
      return inner.commit(commit);
    },
    revision: () => inner.revision(),
    watch: (onHint, prefixes) => inner.watch(onHint, prefixes),
  };
  const integrity = new StoreIntegrity({ store: counting, clock: systemClock, randomness: cryptoRandomness });
  await integrity.open({
    keys: ephemeralKeys(),
    randomness: cryptoRandomness,
    newStoreId: randomIds.next(),
    now: Date.now(),
  });
  const together = 200;
  for (let at = 0; at < size; at += together) {
    const writes = Array.from({ length: Math.min(together, size - at) }, (_, index) => ({
      key: `secret/${secretName(at + index)}`,
      value: randomBytes(200),
    }));
    await integrity.store.commit({ conditions: [], writes });
  }
  const times = 500;
  const write = async (round: number): Promise<void> => {
    const key = `secret/${secretName(Math.floor(Math.random() * size))}`;
    await integrity.store.commit({ conditions: [], writes: [{ key, value: randomBytes(200 + (round % 2)) }] });
  };
  for (let round = 0; round < times; round += 1) await write(round);
  [entries, bytes] = [0, 0];
  const begun = performance.now();
  for (let round = 0; round < times; round += 1) await write(round);
  const micros = ((performance.now() - begun) * 1000) / times;
  await integrity.close();
  return { entries: entries / times, bytes: bytes / times, micros };
}

/** Starting and listing with many secrets in the store, of which an application follows ten. */
async function benchMany(folder: string, secrets: number): Promise<Row[]> {
  const keys = ephemeralKeys();
  const [large, small] = [path.join(folder, 'large.sqlite'), path.join(folder, 'small.sqlite')];
  for (const [file, count] of [
    [large, secrets],
    [small, SUBSCRIBED],
  ] as const) {
    const runtime = await start(sqliteStore({ path: file }), keys);
    await fillStore(runtime, count);
    await runtime.close();
  }
  const boot = (file: string) => async (): Promise<number> => {
    const begun = performance.now();
    const runtime = await start(sqliteStore({ path: file }), keys);
    for (let index = 0; index < SUBSCRIBED; index += 1) await runtime.open(secretName(index));
    const took = performance.now() - begun;
    await runtime.close();
    return took;
  };
  const memory = (file: string): Promise<number> =>
    memoryOf(async () => {
      const runtime = await start(sqliteStore({ path: file }), keys);
      for (let index = 0; index < SUBSCRIBED; index += 1) await runtime.open(secretName(index));
      return runtime;
    });
  const label = `${SUBSCRIBED} subscribed of ${secrets} against ${SUBSCRIBED} of ${SUBSCRIBED}`;
  await boot(large)();
  await boot(small)();
  const started = await compare(`integrity: start, ${label}`, 'ms', ROUNDS, boot(large), boot(small));
  const used = await compare(
    `integrity: memory, ${label}`,
    'KB',
    5,
    () => memory(large),
    () => memory(small),
  );
  return [started, used, await benchPages(large, keys, secrets)];
}

async function benchPages(file: string, keys: KeyProvider, secrets: number): Promise<Row> {
  const runtime = await start(sqliteStore({ path: file }), keys);
  const manager = managerOf(runtime);
  const took = { end: new Array<number>(), start: new Array<number>() };
  try {
    // Another page each time: one that was listed before has its part of the manifest in memory.
    for (let round = 0; round < PAGES; round += 1) {
      const after = { start: secretName(round * PAGE), end: secretName(secrets - 1 - (round + 2) * PAGE) };
      // In turns, since the second page finds what the first has left in memory.
      const turns = round % 2 === 0 ? (['end', 'start'] as const) : (['start', 'end'] as const);
      for (const at of turns) {
        const begun = performance.now();
        const { items } = await manager.listSecrets({ limit: PAGE, after: after[at] });
        if (items.length !== PAGE) throw new Error(`A page has ${items.length} secrets.`);
        took[at].push(performance.now() - begun);
      }
    }
  } finally {
    await runtime.close();
  }
  const [value, baseline] = [median(took.end), median(took.start)];
  return {
    name: `integrity: page of ${PAGE} at the end against the start`,
    value,
    baseline,
    ratio: value / baseline,
    unit: 'ms',
  };
}

function start(store: StoreDriver, keys: KeyProvider): Promise<SecretsRuntime> {
  return SecretsRuntime.start(
    { store, keys, rotate: false },
    { set: (_name, delayMs, task) => systemClock.after(delayMs, task) },
  );
}

function managerOf({ own }: SecretsRuntime): SecretsManager {
  if (own === undefined) throw new Error('There is no manager.');
  return own.manager;
}

/** About what a pair of credentials takes. */
function someValue(): string {
  return randomBytes(120).toString('base64');
}

async function putAll(
  manager: SecretsManager | undefined,
  times: number,
  nameOf: (count: number) => string,
): Promise<void> {
  for (let count = 0; count < times; count += 1) await manager?.putSecretValue(nameOf(count), someValue());
}

function bareRate(puts: () => void): number {
  const begun = performance.now();
  puts();
  return (PUTS * 1000) / (performance.now() - begun);
}

async function rateOf(times: number, work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (times * 1000) / (performance.now() - begun);
}
