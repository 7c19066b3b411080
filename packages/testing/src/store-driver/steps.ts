import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { StoreDriver, StoreEntry, StoreHint } from '@nestjs-secrets/core';
import type { ConformanceStore } from './conformance-store.js';

/** Adds a case with one open driver on an empty store. */
export type OneDriver = (name: string, body: (driver: StoreDriver) => Promise<void>) => void;
/** Adds a case with as many open drivers on one store as it asks for. */
export type SeveralDrivers = (name: string, body: (connect: () => Promise<StoreDriver>) => Promise<void>) => void;
/** Adds a case that opens and closes drivers itself; those it puts in `opened` are closed for it. */
export type FreshStore = (
  name: string,
  body: (store: ConformanceStore, opened: StoreDriver[]) => Promise<void>,
) => void;

/** Adds a case on a store whose server can fail, with as many open drivers as it asks for. */
export type FaultyStore = (
  name: string,
  body: (store: ConformanceStore, connect: () => Promise<StoreDriver>) => Promise<void>,
) => void;

/** Begins to collect the hints of a driver. */
export type Hear = (driver: StoreDriver, prefixes?: readonly string[]) => Hearing;

export const VALUE_LIMIT = 1_048_576;

/** Collects hints from the moment it is made. */
export class Hearing {
  readonly #hints: StoreHint[] = [];

  constructor(
    driver: StoreDriver,
    private readonly withinMs: number,
    prefixes?: readonly string[],
  ) {
    driver.watch((hint) => this.#hints.push(hint), prefixes);
  }

  /** Waits for a hint that covers `key`, and forgets the hints so far. */
  async of(key: string): Promise<void> {
    const deadline = Date.now() + this.withinMs;
    while (!this.#hints.some((hint) => hint.keys === undefined || hint.keys.includes(key))) {
      assert.ok(Date.now() < deadline, `a hint at ${key} came within ${this.withinMs} ms`);
      await pause(5);
    }
    this.#hints.length = 0;
  }
}

export async function increment(driver: StoreDriver, key: string, times: number): Promise<void> {
  for (let done = 0; done < times;) {
    const entry = await driver.get(key);
    const next = bytes(String(Number(text(entry) ?? '0') + 1));
    const committed = await driver.commit({
      conditions: [{ key, revision: entry?.revision ?? 0 }],
      writes: [{ key, value: next }],
    });
    if (committed !== undefined) done += 1;
  }
}

export async function put(driver: StoreDriver, key: string, value: string): Promise<number> {
  const revision = await driver.commit({ conditions: [], writes: [{ key, value: bytes(value) }] });
  assert.ok(revision !== undefined, 'a commit without conditions goes through');
  return revision;
}

export async function putAll(driver: StoreDriver, keys: readonly string[]): Promise<void> {
  await driver.commit({ conditions: [], writes: keys.map((key) => ({ key, value: bytes(key) })) });
}

export async function keysOf(driver: StoreDriver, prefix: string, after?: string): Promise<string[]> {
  // Copied, since a native driver's array may be of another realm than the test's, which a deep comparison would notice.
  return Array.from(await driver.list({ prefix, after, limit: 1000 }), (entry) => entry.key);
}

export async function revisionOf(driver: StoreDriver, key: string): Promise<number> {
  return (await driver.get(key))?.revision ?? 0;
}

export function bytes(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value));
}

export function text(entry: StoreEntry | undefined): string | undefined {
  return entry && Buffer.from(entry.value).toString();
}

export function byBytes(one: string, other: string): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
