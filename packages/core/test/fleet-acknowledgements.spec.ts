import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  memoryStore,
  type StoreCommit,
  type StoreDriver,
  StoreUnavailableError,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Acknowledgements } from '../src/fleet/acknowledgements.js';
import { Instance } from '../src/fleet/instance.js';
import { seededRandomness } from './seeded-randomness.js';
import { Host } from './support/host.js';

const LEASE_MS = 9_000;
const KEY = 'ack/Db:one';
const BORROW_KEY = 'borrow/Db';

let clock: SimulatedClock;
let shared: StoreDriver;
let host: Host;
let instance: Instance;
let acknowledgements: Acknowledgements;

beforeEach(async () => {
  clock = new SimulatedClock();
  shared = memoryStore();
  await shared.open();
  host = new Host(clock, shared);
  const randomness = seededRandomness('fleet-acknowledgements');
  instance = new Instance({ ...host, randomness, processes: unknownProcesses, id: 'one', leaseMs: LEASE_MS });
  await instance.join();
  acknowledgements = new Acknowledgements(host.store, instance, host.clock, randomness);
});

interface Word {
  readonly format: number;
  readonly promotion: number;
  readonly held: { label: string; versionIds: string[] }[];
}

async function word(key = KEY): Promise<Word | undefined> {
  const entry = await shared.get(key);
  return entry && (JSON.parse(Buffer.from(entry.value).toString('utf8')) as Word);
}

const touches = async (): Promise<number> => (await shared.get(BORROW_KEY))?.revision ?? 0;
const acknowledge = (promotion: number, ...versionIds: string[]): void =>
  acknowledgements.acknowledge({ secretName: 'Db', promotion, held: [{ label: 'a pool', versionIds }] });

/** Everything that arrives at the store from now on under one of these keys. */
function arriving(...keys: string[]): StoreCommit[] {
  const commits: StoreCommit[] = [];
  host.beforeCommit = (commit) => {
    if (commit.writes.some(({ key }) => keys.includes(key))) commits.push(commit);
  };
  return commits;
}

/** Holds the next commit up on its way to the store; the function returned lets it arrive. */
function holdUpNext(): () => void {
  let arrive = (): void => undefined;
  host.beforeCommit = () => {
    host.beforeCommit = () => undefined;
    return new Promise((resolve) => (arrive = resolve));
  };
  return () => arrive();
}

describe('the acknowledgements of an instance', () => {
  it('say from the beginning that it is about to read', async () => {
    await acknowledgements.register('Db');
    expect(await word()).toEqual({ format: 1, promotion: 0, held: [] });
  });

  it('are not registered when the store cannot be reached, so that nothing is read either', async () => {
    host.isCutOff = true;
    await expect(acknowledgements.register('Db')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });

  it('keep what was said when they are registered again', async () => {
    await acknowledgements.register('Db');
    acknowledge(4, 'v3');
    await clock.advance(0);
    await acknowledgements.register('Db');
    expect(await word()).toMatchObject({ promotion: 4, held: [{ label: 'a pool', versionIds: ['v3'] }] });
  });

  it('carry the newest word, and leave out consumers that hold nothing', async () => {
    await acknowledgements.register('Db');
    acknowledge(1, 'v1');
    await clock.advance(0);
    expect(await word()).toEqual({ format: 1, promotion: 1, held: [{ label: 'a pool', versionIds: ['v1'] }] });
    acknowledge(2);
    await clock.advance(0);
    expect(await word()).toEqual({ format: 1, promotion: 2, held: [] });
  });

  it('skip what was overtaken before it could be written', async () => {
    await acknowledgements.register('Db');
    const arrive = holdUpNext();
    acknowledge(1, 'v1');
    await clock.advance(0);
    acknowledge(2, 'v1', 'v2');
    acknowledge(3, 'v2');
    const commits = arriving(KEY);
    arrive();
    await clock.advance(0);
    expect(commits).toHaveLength(1);
    expect(await word()).toMatchObject({ promotion: 3, held: [{ versionIds: ['v2'] }] });
  });

  it('are written as soon as the store is there again, without running hot meanwhile', async () => {
    await acknowledgements.register('Db');
    host.isCutOff = true;
    let tries = 0;
    host.onRequest = () => void (tries += 1);
    await instance.leave();
    acknowledge(1, 'v1');
    await clock.advance(60_000);
    // Pauses grow to at most 5 s, half of that on average.
    expect(tries).toBeGreaterThan(12);
    expect(tries).toBeLessThan(80);
    host.isCutOff = false;
    acknowledge(2);
    await clock.advance(5_000);
    expect(await word()).toMatchObject({ promotion: 2, held: [] });
  });

  it('are told anew, all of them, when others had declared the instance dead', async () => {
    const names = Array.from({ length: 250 }, (_, index) => `Secret${index}`);
    for (const secretName of names) acknowledgements.acknowledge({ secretName, promotion: 7, held: [] });
    await clock.advance(0);
    for (const name of ['instance/one', ...names.map((secretName) => `ack/${secretName}:one`)])
      await shared.commit({ conditions: [], writes: [{ key: name, value: null }] });
    await clock.advance(LEASE_MS / 3);
    for (const name of names) expect(await word(`ack/${name}:one`)).toMatchObject({ promotion: 7 });
    // And go on from there.
    acknowledgements.acknowledge({ secretName: 'Secret3', promotion: 8, held: [] });
    await clock.advance(0);
    expect(await word('ack/Secret3:one')).toMatchObject({ promotion: 8 });
  });

  it('are taken back when the instance leaves, and come back no more', async () => {
    await acknowledgements.register('Db');
    acknowledge(1, 'v1');
    await acknowledgements.leave();
    expect(await word()).toBeUndefined();
    acknowledge(2);
    await clock.advance(LEASE_MS);
    expect(await word()).toBeUndefined();
    await instance.leave();
    expect(clock.pending).toBe(0);
  });
});

describe('borrowing', () => {
  const LOG_IN = { label: 'a log-in being tried again', versionIds: ['v1'] };

  beforeEach(async () => {
    await acknowledgements.register('Db');
    acknowledge(2);
    await clock.advance(0);
  });

  it('names the version and touches the borrow key in one commit, before anything is handed out', async () => {
    const commits = arriving(KEY, BORROW_KEY);
    await acknowledgements.borrow('Db', ['v1']);
    expect(commits.map(({ writes }) => writes.map(({ key }) => key))).toEqual([[KEY, BORROW_KEY]]);
    expect(await word()).toMatchObject({ promotion: 2, held: [LOG_IN] });
    expect(await touches()).toBeGreaterThan(0);
  });

  it('touches the borrow key each time, so that every look before it counts no more', async () => {
    await acknowledgements.borrow('Db', ['v1']);
    const first = await touches();
    await acknowledgements.borrow('Db', ['v1']);
    expect(await touches()).toBeGreaterThan(first);
  });

  it('is the only way in which holds grow; giving back lets them shrink, and touches nothing', async () => {
    const giveBack = await acknowledgements.borrow('Db', ['v1']);
    const touched = await touches();
    giveBack();
    await clock.advance(0);
    expect(await word()).toMatchObject({ promotion: 2, held: [] });
    expect(await touches()).toBe(touched);
  });

  it('counts: what two have borrowed is held until both gave it back, however often each says so', async () => {
    const [one, other] = [await acknowledgements.borrow('Db', ['v1']), await acknowledgements.borrow('Db', ['v1'])];
    one();
    one();
    await clock.advance(0);
    expect(await word()).toMatchObject({ held: [LOG_IN] });
    other();
    await clock.advance(0);
    expect(await word()).toMatchObject({ held: [] });
  });

  it('of many at once costs two commits, and is over for none before his version is named', async () => {
    const commits = arriving(BORROW_KEY);
    const versionIds = Array.from({ length: 50 }, (_, index) => `v${index}`);
    const named = await Promise.all(
      versionIds.map(async (versionId) => {
        await acknowledgements.borrow('Db', [versionId]);
        return (await word())?.held.some((held) => held.versionIds.includes(versionId));
      }),
    );
    expect(named).toEqual(versionIds.map(() => true));
    expect(commits.length).toBeLessThanOrEqual(2);
  });

  it('goes over into what the consumer says that it holds', async () => {
    const giveBack = await acknowledgements.borrow('Db', ['v1']);
    acknowledge(2, 'v1');
    giveBack();
    await clock.advance(0);
    expect(await word()).toMatchObject({ held: [{ label: 'a pool', versionIds: ['v1'] }] });
  });

  it('is refused when the store cannot be reached, and leaves nothing borrowed', async () => {
    host.isCutOff = true;
    await expect(acknowledgements.borrow('Db', ['v1'])).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    host.isCutOff = false;
    await clock.advance(5_000);
    expect(await word()).toMatchObject({ promotion: 2, held: [] });
  });

  it('is not undone by a word that was on its way before', async () => {
    const arrive = holdUpNext();
    acknowledge(2);
    await clock.advance(0);
    const borrowing = acknowledgements.borrow('Db', ['v1']);
    await clock.advance(0);
    arrive();
    await borrowing;
    await clock.advance(0);
    expect(await word()).toMatchObject({ held: [LOG_IN] });
  });

  it('is not undone by a word that was given up for lost and arrives after all', async () => {
    let late: StoreCommit | undefined;
    // Without an answer nobody knows whether a commit is still on its way.
    host.beforeCommit = (commit) => {
      late = commit;
      host.beforeCommit = () => undefined;
      throw new StoreUnavailableError('memory', 'did not answer.');
    };
    acknowledge(2);
    await clock.advance(0);
    await acknowledgements.borrow('Db', ['v1']);
    expect(late).toBeDefined();
    if (late !== undefined) expect(await shared.commit(late)).toBeUndefined();
    expect(await word()).toMatchObject({ held: [LOG_IN] });
  });
});
