import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  ephemeralKeys,
  isSecretsError,
  type KeyProvider,
  movingStore,
  type MovingStore,
  type StoreDriver,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { lastingRevision } from '../src/store/move-records.js';
import { sharedKeys } from './support/fleet.js';
import { Database, Process } from './support/moving-parts.js';
import { startWorld, type World } from './support/world.js';

const LEASE_MS = 9_000;

let clock: SimulatedClock;
let from: Database;
let to: Database;
let keys: KeyProvider;
let worlds: World[];
let places = 0;

beforeEach(async () => {
  clock = new SimulatedClock();
  from = await new Database('old').start();
  to = await new Database('new').start();
  keys = sharedKeys(ephemeralKeys());
  worlds = [];
});

afterEach(async () => {
  for (const world of worlds) await leave(world);
});

const moving = (): MovingStore => movingStore({ from: from.door(), to: to.door(), clock });

async function start(store: StoreDriver): Promise<World & { readonly id: string }> {
  const place = (places += 1);
  let ids = 0;
  const world = await startWorld({
    clock,
    store,
    keys,
    ids: { next: () => `p${place}-${(ids += 1)}` },
    instance: { leaseMs: LEASE_MS, processes: unknownProcesses },
    policies: { refreshIntervalMs: 86_400_000, maxStalenessMs: 3 * 86_400_000 },
  });
  worlds.push(world);
  await world.runtime.startRotating();
  return { ...world, id: world.runtime.own?.instance.id ?? '' };
}

async function leave(world: World): Promise<void> {
  worlds = worlds.filter(({ runtime }) => runtime !== world.runtime);
  await world.runtime.stopRotating();
  await world.runtime.close();
}

async function eventually<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => (isDone = true));
  done.catch(() => undefined);
  for (let step = 0; step < 400 && !isDone; step += 1) await clock.advance(100);
  if (!isDone) throw new Error('it never came to its end');
  return done;
}

async function failureOf(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await work;
  } catch (error) {
    if (isSecretsError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('an application whose store is moved', () => {
  it('is the same application on the new store, sealed as it was', async () => {
    const first = await start(from.door());
    await first.manager.createSecret('S', 'one');
    await leave(first);
    const [storeA, storeB] = [moving(), moving()];
    const [a, b] = [await start(storeA), await start(storeB)];
    await a.manager.putSecretValue('S', 'two');
    const seen = await lastingRevision(storeA);
    await eventually(storeA.move());
    await b.manager.putSecretValue('S', 'three');
    expect((await a.manager.getSecretValue('S')).value).toBe('three');
    expect((await a.runtime.own?.integrity?.verifyStore())?.findings).toEqual([]);
    const counted = await lastingRevision(storeA);
    expect(counted).toBeGreaterThan(seen);
    await leave(a);
    await leave(b);
    const door = to.door();
    // What is kept in the store and must only grow goes on growing when the new store is opened by itself.
    expect(await lastingRevision(door)).toBeGreaterThanOrEqual(counted);
    const alone = await start(door);
    expect((await alone.manager.getSecretValue('S')).value).toBe('three');
    expect((await alone.manager.getSecretValue('S', { versionId: 'v1' })).value).toBe('one');
    expect((await alone.runtime.own?.integrity?.verifyStore())?.findings).toEqual([]);
  });

  it('keeps those from the old store who do not know of the move, and those from the new one who come too early', async () => {
    const store = moving();
    const world = await start(store);
    await world.manager.createSecret('S', 'one');
    const process = new Process();
    const dying = movingStore({ from: from.door(process), to: to.door(process), clock });
    await dying.open();
    dying.moves$.subscribe(({ type }) => {
      if (type === 'copied') process.isDead = true;
    });
    await failureOf(eventually(dying.move()));
    expect(await store.phase()).toBe('copying');
    const before = await from.contents();
    for (const [name, door] of [
      ['being moved', from.door()],
      ['copy in the making', to.door()],
    ] as const) {
      const failure = await failureOf(start(door));
      expect(failure).toMatchObject({ code: 'STORE_MOVED', message: expect.stringContaining(name) });
    }
    await eventually(store.move());
    expect(await failureOf(start(from.door()))).toMatchObject({
      code: 'STORE_MOVED',
      message: expect.stringMatching(/was moved to new.*Open new instead/),
    });
    // Not a single entry came of it.
    expect([...(await from.contents()).keys()]).toEqual([...before.keys()]);
    await start(to.door());
  });

  it('is not moved while an instance does not know of it', async () => {
    const plain = await start(from.door());
    const store = moving();
    await start(store);
    const refused = await failureOf(eventually(store.move()));
    expect(refused.code).toBe('STORE_MOVE_REFUSED');
    expect(refused.message).toContain(plain.id);
    expect(await store.phase()).toBe('none');
    expect((await to.contents()).size).toBe(0);
    await leave(plain);
    await eventually(store.move());
    expect(await store.phase()).toBe('moved');
  });

  it('is not opened by a process that would be overlooked: one that was opening when the move began', async () => {
    const store = moving();
    await start(store);
    const process = new Process();
    let begun: Promise<unknown> | undefined;
    let joins = 0;
    const door = from.door(process);
    const late: StoreDriver = {
      ...door,
      commit: async (commit) => {
        if (begun === undefined && commit.writes.some(({ key }) => key.startsWith('instance/'))) {
          joins += 1;
          begun = store.move();
          begun.catch(() => undefined);
          // The move has looked for instances, and found none but its own.
          while ((await store.phase()) === 'none') await clock.advance(10);
        }
        return door.commit(commit);
      },
    };
    expect((await failureOf(start(late))).code).toBe('STORE_MOVED');
    expect(joins).toBe(1);
    if (begun === undefined) throw new Error('it did not begin');
    await eventually(begun.catch(() => store.move()));
    expect(await store.phase()).toBe('moved');
    const instances = [...(await to.contents()).keys()].filter((key) => key.startsWith('instance/'));
    expect(instances).toHaveLength(1);
  });
});
