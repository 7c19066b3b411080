import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { isSecretsError, movingStore, type MovingStore, type Randomness } from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { seededRandomness } from './seeded-randomness.js';
import { Database, Process } from './support/moving-parts.js';

const SEEDS = 50;
const INSTANCES = 3;
const COUNTERS = 4;

/** Several processes that write and read at random while the store is moved, with movers that die, on a network that delays everything. */
class Turmoil {
  readonly violations: string[] = [];
  readonly #clock = new SimulatedClock();
  readonly #random: Randomness;
  readonly #from = new Database('old');
  readonly #to = new Database('new');
  readonly #stores: MovingStore[] = [];
  /** The values of each counter that were acknowledged, in whatever order that was heard, and the keys that are written once. */
  readonly #acknowledged = new Map<string, Set<number>>();
  readonly #once = new Map<string, string | undefined>();
  #isMoving = true;
  commits = 0;
  deaths = 0;
  afterwards = 0;

  constructor(seed: string) {
    this.#random = seededRandomness(seed);
  }

  async run(): Promise<void> {
    await this.#from.start();
    await this.#to.start();
    for (let place = 0; place < INSTANCES; place += 1) {
      const process = new Process();
      // Hints get lost; the first one hears nothing at all, and writes nothing either, by which it would find out.
      process.hears = () => place > 0 && this.#random.below(2) === 0;
      this.#stores.push(await this.#join(process));
    }
    const time = this.#passTime();
    const writers = this.#stores.flatMap((store, place) =>
      place === 0 ? [this.#read(store), this.#read(store)] : [this.#write(store, place), this.#read(store)],
    );
    await this.#move();
    this.#isMoving = false;
    await Promise.all(writers);
    await time;
    await this.#judge();
    for (const store of this.#stores) await store.close();
  }

  async #join(process: Process): Promise<MovingStore> {
    process.delay = () => this.#random.below(4);
    const store = movingStore({
      from: this.#from.door(process),
      to: this.#to.door(process),
      clock: this.#clock,
      freezeMs: 3000,
      leaseMs: 2000,
    });
    await store.open();
    return store;
  }

  /** Movers come and die until one gets through. */
  async #move(): Promise<void> {
    for (let left = this.#random.below(4); ; left -= 1) {
      const process = new Process();
      const mover = await this.#join(process);
      let fatal = left > 0 ? 1 + this.#random.below(12) : 0;
      const deadly = this.#random.below(2) === 0 ? 'before' : 'after';
      process.effect = (side) => {
        if (side !== deadly || fatal === 0) return;
        fatal -= 1;
        if (fatal === 0) process.isDead = true;
      };
      try {
        await mover.move();
        await mover.close();
        return;
      } catch (error) {
        if (process.isDead) this.deaths += 1;
        else if (!isSecretsError(error)) throw error;
      }
    }
  }

  async #passTime(): Promise<void> {
    while (this.#isMoving) await this.#clock.advance(this.#random.below(60));
    await this.#clock.advance(10_000);
  }

  async #write(store: MovingStore, place: number): Promise<void> {
    for (let round = 0; this.#goesOn(); round += 1) {
      await nextTurn();
      if (this.#random.below(3) === 0) await this.#writeOnce(store, `once/${place}/${round}`);
      else await this.#increment(store, `counter/${this.#random.below(COUNTERS)}`);
    }
  }

  /** For as long as the store is moved, and some commits longer. */
  #goesOn(): boolean {
    if (!this.#isMoving) this.afterwards += 1;
    return this.#isMoving || this.afterwards < 200;
  }

  async #writeOnce(store: MovingStore, key: string): Promise<void> {
    const revision = await store.commit({
      conditions: [{ key, revision: 0 }],
      writes: [{ key, value: Buffer.from(key) }],
    });
    if (revision === undefined) this.violations.push(`${key} was there already`);
    this.#once.set(key, key);
    if (this.#random.below(4) > 0) return;
    await store.commit({ conditions: [], writes: [{ key, value: null }] });
    this.#once.set(key, undefined);
    if ((await store.get(key)) !== undefined) this.violations.push(`${key} was removed and is there`);
  }

  async #increment(store: MovingStore, key: string): Promise<void> {
    const entry = await store.get(key);
    // A read and its commit may lie on both sides of the cut-over.
    for (let turn = this.#random.below(6); turn > 0; turn -= 1) await nextTurn();
    const next = Number(Buffer.from(entry?.value ?? []).toString() || '0') + 1;
    const revision = await store.commit({
      conditions: [{ key, revision: entry?.revision ?? 0 }],
      writes: [{ key, value: Buffer.from(String(next)) }],
    });
    if (revision === undefined) return;
    this.commits += 1;
    if (entry !== undefined && revision <= entry.revision) this.violations.push(`${key} went back to ${revision}`);
    const known = this.#acknowledged.get(key) ?? new Set();
    if (known.has(next)) this.violations.push(`${key} became ${next} twice`);
    this.#acknowledged.set(key, known.add(next));
  }

  /** Whatever was acknowledged before a read began, in whichever process, the read sees. */
  async #read(store: MovingStore): Promise<void> {
    while (this.#goesOn()) {
      await nextTurn();
      const key = `counter/${this.#random.below(COUNTERS)}`;
      const least = Math.max(0, ...(this.#acknowledged.get(key) ?? []));
      const isListed = this.#random.below(3) === 0;
      const [listed] = isListed ? await store.list({ prefix: key, limit: 1 }) : [];
      const entry = isListed ? listed : await store.get(key);
      const value = Number(Buffer.from(entry?.value ?? []).toString() || '0');
      if (value < least) this.violations.push(`${key} was read as ${value} after ${least} was acknowledged`);
    }
  }

  async #judge(): Promise<void> {
    const contents = await this.#to.contents();
    for (const [key, { size }] of this.#acknowledged)
      if (contents.get(key) !== String(size)) this.violations.push(`${key} is ${contents.get(key)}, not ${size}`);
    for (const [key, value] of this.#once)
      if (contents.get(key) !== value) this.violations.push(`${key} is ${contents.get(key)}, not ${value}`);
  }
}

describe('a store that is moved under load, by movers that die', () => {
  it('loses nothing, applies nothing twice, and shows nothing old', async () => {
    const total = { commits: 0, deaths: 0 };
    for (let seed = 0; seed < SEEDS; seed += 1) {
      const turmoil = new Turmoil(`moving ${seed}`);
      await turmoil.run();
      expect([seed, ...turmoil.violations.slice(0, 5)]).toEqual([seed]);
      total.commits += turmoil.commits;
      total.deaths += turmoil.deaths;
    }
    expect(total.commits).toBeGreaterThan(SEEDS * 20);
    expect(total.deaths).toBeGreaterThan(SEEDS / 3);
  }, 300_000);
});
