import { describe, expect, it } from '@jest/globals';
import { memoryStore, type ProcessTable, type StoreCommit, type StoreDriver } from '@nestjs-secrets/core';
import { sharedKeys } from './support/fleet.js';
import { type Login, named, startWorld, Target, TargetRotator } from './support/world.js';

/** The process is gone: nothing it still tries comes to anything, and nobody hears of it. */
const GONE = new Promise<never>(() => undefined);

/** Where a process dies: on which side of which of its effects, counted from when the rotation began. */
interface CrashPoint {
  readonly effect: number;
  readonly side: 'before' | 'after';
}

/** A process over a shared store and target that dies at one point; counts the effects it gets to otherwise. */
function mortal(shared: StoreDriver, rotator: TargetRotator, point: CrashPoint | undefined) {
  let effects = 0;
  let armed = false;
  let dead = false;
  const died = { resolve: (): void => undefined };
  const death = new Promise<void>((resolve) => {
    died.resolve = resolve;
  });
  const pass = async <R>(effect: () => R | Promise<R>): Promise<R> => {
    if (dead) return GONE;
    const number = armed ? (effects += 1) : 0;
    const dies = (side: string): boolean => armed && point?.effect === number && point.side === side;
    const die = (): Promise<never> => {
      dead = true;
      died.resolve();
      return GONE;
    };
    if (dies('before')) return die();
    const result = await effect();
    return dies('after') ? die() : result;
  };
  const store: StoreDriver = {
    name: shared.name,
    open: async () => undefined,
    close: async () => undefined,
    get: (key) => (dead ? GONE : shared.get(key)),
    list: (options) => (dead ? GONE : shared.list(options)),
    revision: () => (dead ? GONE : shared.revision()),
    watch: (onHint) => shared.watch((hint) => dead || onHint(hint)),
    commit: (commit: StoreCommit) => pass(() => shared.commit(commit)),
  };
  rotator.hook = (_step, side) => (side === 'before' ? pass(() => undefined) : pass(() => undefined));
  return { store, death, arm: () => (armed = true), count: () => effects };
}

const LEASE_MS = 3_600_000;

/** One system on which process 1 has ended by the time process 2 runs. */
function processesSeenFrom(pid: number): ProcessTable {
  return { self: () => ({ system: 'a test', pid, startedAt: '' }), hasEnded: (other) => other.pid < pid };
}

async function firstLife(ring: readonly string[] | undefined, point: CrashPoint | undefined) {
  const shared = memoryStore();
  await shared.open();
  const keys = sharedKeys();
  const target = new Target();
  const rotator = new TargetRotator(target, ring);
  const life = mortal(shared, rotator, point);
  const instance = { leaseMs: LEASE_MS, processes: processesSeenFrom(1) };
  const world = await startWorld({ store: life.store, keys, rotators: [named(rotator)], instance });
  const first = { username: ring?.[0] ?? 'app', password: 'first-password' };
  target.accounts.set(first.username, first.password);
  await world.manager.createSecret('Db', first, { rotation: { rotator: 'target' } });
  await world.manager.createSecret('Other', 'acknowledged');
  life.arm();
  const through = world.manager.rotateSecret('Db', { until: 'retired' }).then(() => 'through');
  const end = await Promise.race([through, life.death.then(() => 'died')]);
  return { end, effects: life.count(), shared, keys, target };
}

describe.each([
  ['alternating users', ['app_1', 'app_2']],
  ['a single user', undefined],
])('killed at any point of a rotation with %s', (_label, ring) => {
  it('I1 I6 I9 a stored version always opens the target, and the next start carries the rotation to its end', async () => {
    const { effects, end } = await firstLife(ring, undefined);
    expect(end).toBe('through');
    expect(effects).toBeGreaterThan(10);
    for (let effect = 1; effect <= effects; effect += 1) {
      for (const side of ['before', 'after'] as const) {
        const where = `${side} effect ${effect} of ${effects}`;
        const { end: outcome, shared, keys, target } = await firstLife(ring, { effect, side });
        // The last effect may be followed by nothing that could notice its death.
        expect([where, outcome]).toEqual([where, 'died']);
        const rotator = new TargetRotator(target, ring);
        const instance = { leaseMs: LEASE_MS, processes: processesSeenFrom(2) };
        const world = await startWorld({ store: shared, keys, rotators: [named(rotator)], instance });
        const stored = await Promise.all(
          (await world.manager.listVersions('Db')).map(
            async ({ versionId }) => (await world.manager.getSecretValue<Login>('Db', { versionId })).value,
          ),
        );
        expect([where, stored.some((login) => target.opens(login))]).toEqual([where, true]);
        await world.engine.resume();
        const status = async () => (await world.manager.describeSecret('Db')).rotation;
        for (
          let looks = 0;
          looks < 100 && ((await status())?.step !== undefined || (await status())?.unretired.length !== 0);
          looks += 1
        ) {
          await world.clock.advance(1_000);
        }
        const current = (await world.manager.getSecretValue<Login>('Db')).value;
        expect([where, target.opens(current)]).toEqual([where, true]);
        expect([where, target.accounts.size]).toEqual([where, 1]);
        expect((await world.manager.getSecretValue('Other')).value).toBe('acknowledged');
        await world.manager.rotateSecret('Db', { until: 'retired' });
        expect([where, target.opens((await world.manager.getSecretValue<Login>('Db')).value)]).toEqual([where, true]);
        expect([where, target.accounts.size]).toEqual([where, 1]);
      }
    }
  });
});
