import type { StoreDriver } from '@nestjs-secrets/core';
import type { ConformanceStore, StoreFault } from './store-driver/conformance-store.js';
import { attacks } from './store-driver/attacks.js';
import { conditions, limits, revisions } from './store-driver/commits.js';
import { faults } from './store-driver/faults.js';
import { racing } from './store-driver/racing.js';
import { sharing } from './store-driver/sharing.js';
import {
  Hearing,
  type FaultyStore,
  type FreshStore,
  type Hear,
  type OneDriver,
  type SeveralDrivers,
} from './store-driver/steps.js';
import { listing, readingAndWriting } from './store-driver/values-and-lists.js';
import { hints, lifeCycle } from './store-driver/watch-and-life.js';

/** One thing every store driver must do; `run` rejects when the driver does not. */
export interface ConformanceCase {
  readonly name: string;
  run(): Promise<void>;
}

/** How the suite gets stores of the kind under test. */
export interface StoreDriverHarness {
  /**
   * True when several drivers, in several processes, can work on the same stored data and the data outlives them. False when a driver is
   * its own store, as the memory driver is: the cases about other writers and durability are then left out.
   */
  readonly shared: boolean;
  /** How long a hint may take, in milliseconds, also one at a commit of another driver; 10,000 by default. */
  readonly hintWithinMs?: number;
  /** What the stores can be made to suffer, for the cases about outages; nothing by default. */
  readonly faults?: readonly StoreFault[];
  /**
   * Makes an empty store. `willFail` is true for the cases about outages, which are the quicker the sooner its drivers give up a call without
   * an answer; in all others a driver may be patient with a machine under load.
   */
  createStore(willFail: boolean): Promise<ConformanceStore>;
}

/**
 * Everything the `StoreDriver` port promises, as cases for any test runner. A driver is done when all of them pass.
 *
 * ```ts
 * for (const { name, run } of storeDriverConformance({ shared: false, createStore })) it(name, run);
 * ```
 */
export function storeDriverConformance(harness: StoreDriverHarness): ConformanceCase[] {
  const cases: ConformanceCase[] = [];

  const add = (name: string, body: Parameters<FreshStore>[1], willFail: boolean): void => {
    const run = async (): Promise<void> => {
      const store = await harness.createStore(willFail);
      const drivers: StoreDriver[] = [];
      try {
        await body(store, drivers);
      } finally {
        for (const driver of drivers) await driver.close();
        await store.dispose();
      }
    };
    cases.push({ name, run });
  };
  const fresh: FreshStore = (name, body) => add(name, body, false);
  const one: OneDriver = (name, body) =>
    fresh(name, async (store, drivers) => {
      const driver = store.connect();
      drivers.push(driver);
      await driver.open();
      await body(driver);
    });
  const connecting =
    (store: ConformanceStore, drivers: StoreDriver[]): (() => Promise<StoreDriver>) =>
    async () => {
      const driver = store.connect();
      drivers.push(driver);
      await driver.open();
      return driver;
    };
  const several: SeveralDrivers = (name, body) => {
    if (harness.shared) fresh(name, (store, drivers) => body(connecting(store, drivers)));
  };
  const faulty: FaultyStore = (name, body) =>
    add(name, (store, drivers) => body(store, connecting(store, drivers)), true);

  const hear: Hear = (driver, prefixes) => new Hearing(driver, harness.hintWithinMs ?? 10_000, prefixes);

  readingAndWriting(one);
  listing(one);
  conditions(one);
  revisions(one);
  limits(one);
  hints(one, hear);
  lifeCycle(one, fresh);
  sharing(several, hear);
  racing(one, several);
  if (harness.shared) faults(faulty, hear, harness.faults ?? []);
  attacks(fresh, harness.shared);
  return cases;
}
