import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { StoreDriver } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import Database from 'better-sqlite3';
import { compare, type Row } from './row.js';

const ROUNDS = 15;
const PUTS = 416;
const CALLERS = 32;
const KEYS = Array.from({ length: 100 }, (_, index) => `versions/MyDbCreds/${String(index).padStart(4, '0')}`);
/** About what a sealed pair of credentials takes. All different, since SQLite writes nothing when a row stays what it was. */
const VALUES = Array.from({ length: 7919 }, () => randomBytes(600));

type NextValue = () => Uint8Array;

/** Durable puts through the store port on SQLite, against bare commits of better-sqlite3 that are as durable. */
export async function benchStore(): Promise<Row[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  let drawn = 0;
  const nextValue: NextValue = () => VALUES[drawn++ % VALUES.length] ?? new Uint8Array(0);
  const store = sqliteStore({ path: path.join(folder, 'store.sqlite') });
  const database = bareDatabase(path.join(folder, 'bare.sqlite'), nextValue);
  await store.open();
  try {
    const bare = (): number => rate(database.puts);
    const ported = async (): Promise<number> => rateOf(() => puts(store, PUTS, nextValue));
    const concurrent = async (): Promise<number> =>
      rateOf(() => Promise.all(Array.from({ length: CALLERS }, () => puts(store, PUTS / CALLERS, nextValue))));
    // Unmeasured rounds, for the compiler.
    for (let round = 0; round < 4; round++) for (const warmUp of [ported, bare]) await warmUp();
    return [
      await compare('store: durable put, one caller', 'put/s', ROUNDS, ported, bare),
      await compare(`store: durable put, ${CALLERS} callers`, 'put/s', ROUNDS, concurrent, bare),
    ];
  } finally {
    await store.close();
    database.close();
    await rm(folder, { recursive: true });
  }
}

async function puts(store: StoreDriver, times: number, nextValue: NextValue): Promise<void> {
  for (let count = 0; count < times; count++) {
    await store.commit({ conditions: [], writes: [{ key: keyOf(count), value: nextValue() }] });
  }
}

function bareDatabase(file: string, nextValue: NextValue): { puts(): void; close(): void } {
  const database = new Database(file);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE bare (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)');
  const upsert = database.prepare(
    'INSERT INTO bare (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  );
  const put = database.transaction((key: string, value: Uint8Array) => void upsert.run(key, value));
  return {
    puts: () => {
      for (let count = 0; count < PUTS; count++) put(keyOf(count), nextValue());
    },
    close: () => database.close(),
  };
}

function keyOf(count: number): string {
  return KEYS[count % KEYS.length] ?? '';
}

function rate(work: () => void): number {
  const start = performance.now();
  work();
  return perSecond(start);
}

async function rateOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return perSecond(start);
}

function perSecond(start: number): number {
  return (PUTS * 1000) / (performance.now() - start);
}
