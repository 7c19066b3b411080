import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { KeyDescription } from '@nestjs-secrets/core';
import { Fleet } from 'nestjs-secrets-test/chaos/fleet';
import type { FleetProcess } from 'nestjs-secrets-test/chaos/fleet-process';
import { judgeQueries } from 'nestjs-secrets-test/chaos/query-verdict';

const SECRETS = 10_000;
const READERS = 32;
const WRITERS = 64;
/** How often the process that seals anew is killed. */
const KILLS = 6;

let fleet: Fleet;

beforeAll(async () => {
  // Its pools rotate all the while. A machine that is busy with all of this may keep a statement waiting, which is no failed read.
  fleet = await Fleet.start({
    processes: 3,
    every: '1s',
    load: { short: 2, transactions: 1, long: 0 },
    answerWithinMs: 20_000,
    observerWithinMs: 20_000,
  });
}, 120_000);

afterAll(() => fleet?.close(), 60_000);

const nameOf = (place: number): string => `rewrapped/${place}`;
const valueOf = (place: number): string => `the value of ${place}`;

/** As many callers as stated, until there is no place left. */
async function each(callers: number, work: (place: number) => Promise<unknown>): Promise<void> {
  let place = 0;
  const call = async (): Promise<void> => {
    while (place < SECRETS) await work(place++);
  };
  await Promise.all(Array.from({ length: callers }, call));
}

/** Reads at random until it is told to stop, and keeps whatever was wrong. */
class Readers {
  readonly failed: string[] = [];
  reads = 0;
  #isReading = true;
  readonly #done: Promise<unknown>;

  constructor() {
    this.#done = Promise.all(Array.from({ length: READERS }, () => this.#read()));
  }

  async stop(): Promise<void> {
    this.#isReading = false;
    await this.#done;
  }

  async #read(): Promise<void> {
    while (this.#isReading) {
      const place = randomInt(SECRETS);
      try {
        const { value } = await fleet.manager.getSecretValue(nameOf(place));
        if (value !== valueOf(place)) this.failed.push(`${nameOf(place)} had another value`);
      } catch (error) {
        this.failed.push(`${nameOf(place)}: ${String(error)}`);
      }
      this.reads += 1;
    }
  }
}

const key = (): Promise<KeyDescription> => fleet.manager.keys.describeKey('default');

/** What was asked for takes a moment to be written down. */
async function underWay(): Promise<void> {
  while ((await key()).rewrap?.running === undefined) await delay(20);
}

/** The process that seals anew, once there is one. Undefined when everything is sealed. */
async function worker(): Promise<FleetProcess | undefined> {
  for (;;) {
    const running = (await key()).rewrap?.running;
    if (running === undefined) return undefined;
    for (const process of fleet.processes) {
      if (process.isServing && (await process.ready) === running.instanceId) return process;
    }
    await delay(20);
  }
}

describe('sealing 10,000 secrets anew', () => {
  it('goes on whoever is killed, while 32 readers and rotating pools work: no read and no query fails', async () => {
    await each(WRITERS, (place) => fleet.manager.createSecret(nameOf(place), valueOf(place)));
    await fleet.manager.keys.rotateKey('default', { rewrap: false });
    const readers = new Readers();
    const begun = fleet.at(0).ask({ ask: 'rewrap' });
    // It is killed before it can answer.
    begun.catch(() => undefined);
    await underWay();

    const killed: number[] = [];
    for (let doomed = await worker(); doomed !== undefined && killed.length < KILLS; doomed = await worker()) {
      await delay(randomInt(300));
      const { rewrap } = await key();
      if (rewrap?.running === undefined) break;
      killed.push(rewrap.running.seen);
      const place = fleet.processes.indexOf(doomed);
      doomed.kill();
      await doomed.ended;
      await fleet.startProcess(place).ready;
    }
    while ((await worker()) !== undefined) await delay(100);
    await readers.stop();

    // At least some of the kills came in its midst.
    expect(killed.length).toBeGreaterThanOrEqual(3);
    expect(killed.some((seen) => seen > 0 && seen < SECRETS)).toBe(true);
    const { versions, rewrap } = await key();
    expect(rewrap?.last).toMatchObject({ failed: 0, failures: [] });
    // The versions of the rotating credential come and go meanwhile.
    expect(rewrap?.last?.resealed).toBeGreaterThanOrEqual(SECRETS);
    expect(rewrap?.last?.resealed).toBeLessThan(SECRETS + 100);
    expect(versions.map(({ state }) => state)).toEqual(['decrypt-only', 'active']);
    // Looks at every value in the store: nothing is under the old version any more.
    await fleet.manager.keys.scheduleDestruction('default', { version: 1 });

    expect(readers.failed).toEqual([]);
    expect(readers.reads).toBeGreaterThan(1000);
    await each(READERS, async (place) =>
      expect((await fleet.manager.getSecretValue(nameOf(place))).value).toBe(valueOf(place)),
    );
    const verdict = judgeQueries(fleet.started, fleet.leaseMs);
    expect(verdict.failed).toEqual([]);
    expect(verdict.queries).toBeGreaterThan(100);
    const { rotation } = await fleet.manager.describeSecret('FleetDbCreds');
    expect(rotation?.failures).toBe(0);
  }, 600_000);
});
