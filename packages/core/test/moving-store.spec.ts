import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { movingStore, type MovingStore, type StoreDriver } from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { codeOf } from './support/code-of.js';
import { Database, Process } from './support/moving-parts.js';
import { put, read } from './support/sealed-store.js';

const FREEZE_MS = 2000;
const LEASE_MS = 4000;

let clock: SimulatedClock;
let from: Database;
let to: Database;
let opened: MovingStore[];
let ids = 0;

beforeEach(async () => {
  clock = new SimulatedClock();
  from = await new Database('old').start();
  to = await new Database('new').start();
  opened = [];
});

afterEach(async () => {
  for (const store of opened) await store.close();
});

async function instance(process = new Process(), stores = { from, to }): Promise<MovingStore> {
  const store = movingStore({
    from: stores.from.door(process),
    to: stores.to.door(process),
    clock,
    ids: { next: () => `id-${(ids += 1)}` },
    freezeMs: FREEZE_MS,
    leaseMs: LEASE_MS,
  });
  await store.open();
  opened.push(store);
  return store;
}

/** Moves time on until the work is done. */
async function eventually<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => (isDone = true));
  done.catch(() => undefined);
  for (let step = 0; step < 2000 && !isDone; step += 1) await clock.advance(50);
  if (!isDone) throw new Error('it never came to its end');
  return done;
}

async function fill(store: StoreDriver, count: number): Promise<void> {
  for (let begin = 0; begin < count; begin += 50)
    await put(
      store,
      Object.fromEntries(
        Array.from({ length: Math.min(50, count - begin) }, (_, index) => [`secret/${begin + index}`, `v${index}`]),
      ),
    );
}

/** Stops a process at its commit to a store that writes this phase, before it happens. */
function stopBefore(process: Process, commits: number): { readonly reached: Promise<void>; goOn(): void } {
  let reach = (): void => undefined;
  let goOn = (): void => undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const released = new Promise<void>((resolve) => (goOn = resolve));
  let seen = 0;
  process.effect = async (side) => {
    if (side !== 'before') return;
    seen += 1;
    if (seen !== commits) return;
    reach();
    await released;
  };
  return { reached, goOn };
}

describe('a store that is moved', () => {
  it('is the old one before, and the new one after it, in every process, byte for byte', async () => {
    const [one, other] = [await instance(), await instance()];
    await fill(one, 730);
    await put(one, { empty: '', 'secret/3': null });
    const before = await from.contents();
    const report = await eventually(one.move());
    expect(report).toMatchObject({ entries: before.size });
    expect(await to.contents()).toEqual(before);
    await put(other, { late: 'there' });
    expect(await read(one, 'late')).toBe('there');
    expect((await from.contents()).has('late')).toBe(false);
    expect((await to.contents()).get('late')).toBe('there');
    expect(await one.phase()).toBe('moved');
    expect(await other.move()).toEqual(report);
  });

  it('takes nothing into the old store after the move, also from a process that has heard nothing', async () => {
    const deaf = new Process();
    const [mover, late] = [await instance(), await instance(deaf)];
    const stop = stopBefore(deaf, 1);
    const commit = put(late, { late: 'value' });
    await stop.reached;
    await eventually(mover.move());
    stop.goOn();
    await commit;
    expect((await from.contents()).has('late')).toBe(false);
    expect((await to.contents()).get('late')).toBe('value');
  });

  it('shows nothing old to a process that has heard nothing, as soon as somebody has written to the new store', async () => {
    const deaf = new Process();
    deaf.hears = () => false;
    const [mover, late] = [await instance(), await instance(deaf)];
    await put(mover, { a: 'old' });
    await clock.advance(1000);
    let isMoved = false;
    const moving = mover.move().then(() => (isMoved = true));
    // Has just been told that the old store is the one to read from.
    expect(await read(late, 'a')).toBe('old');
    for (let step = 0; step < 500 && !isMoved; step += 1) await clock.advance(5);
    await moving;
    await put(mover, { a: 'new' });
    expect(await read(late, 'a')).toBe('new');
    expect((await late.list({ prefix: 'a', limit: 1 })).map(({ value }) => Buffer.from(value).toString())).toEqual([
      'new',
    ]);
  });

  it('believes no driver: what did not arrive is found, also at the very end', async () => {
    const process = new Process();
    const door = to.door(process);
    const lost = new Set<string>();
    const losing: StoreDriver = {
      ...door,
      commit: (commit) =>
        door.commit({
          ...commit,
          // Of each key the first copy gets lost on its way.
          writes: commit.writes.filter(({ key }) => {
            if (key.startsWith('moving/') || lost.has(key)) return true;
            lost.add(key);
            return false;
          }),
        }),
    };
    const mover = movingStore({ from: from.door(process), to: losing, clock, freezeMs: FREEZE_MS, leaseMs: LEASE_MS });
    await mover.open();
    opened.push(mover);
    await put(mover, { a: 'value', b: 'value' });
    const other = await instance();
    let isLate = false;
    mover.moves$.subscribe((event) => {
      process.delay = () => 0;
      if (event.type !== 'copied' || isLate) return;
      isLate = true;
      // Between the copying and the freeze.
      process.delay = () => 30;
      void put(other, { late: 'value' });
    });
    await eventually(mover.move());
    expect(lost.has('late')).toBe(true);
    expect(await to.contents()).toEqual(await from.contents());
    expect((await to.contents()).get('late')).toBe('value');
  });

  it('never takes a revision of one store for one of the other', async () => {
    const [store, mover] = [await instance(), await instance()];
    for (let round = 0; round < 40; round += 1) await put(store, { a: `a${round}`, [`b/${round}`]: 'b' });
    const known = await store.get('a');
    const old = await store.get('b/3');
    const highest = await store.revision();
    await eventually(mover.move());
    const moved = await store.get('a');
    expect(moved?.revision).toBeGreaterThan(highest);
    expect(await store.revision()).toBeGreaterThanOrEqual(moved?.revision ?? Infinity);
    // What was read before the move, and has not changed since, still counts.
    const conditions = [{ key: 'a', revision: known?.revision ?? 0 }];
    expect(await store.commit({ conditions, writes: [{ key: 'a', value: Buffer.from('next') }] })).toBeGreaterThan(
      highest,
    );
    expect(await store.commit({ conditions, writes: [{ key: 'a', value: Buffer.from('again') }] })).toBeUndefined();
    const stale = [{ key: 'b/3', revision: (old?.revision ?? 0) - 1 }];
    expect(await store.commit({ conditions: stale, writes: [{ key: 'b/3', value: null }] })).toBeUndefined();
    expect(await store.commit({ conditions: [{ key: 'b/3', revision: 0 }], writes: [] })).toBeUndefined();
    // The new store counts from 1, so its own revisions are among those of the old one.
    for (let revision = 1; revision < 10; revision += 1)
      if (revision !== old?.revision)
        expect(await store.commit({ conditions: [{ key: 'b/3', revision }], writes: [] })).toBeUndefined();
  });

  it('has commits wait for the last part, and goes on reading', async () => {
    const process = new Process();
    const [mover, store] = [await instance(process), await instance()];
    await put(store, { a: 'before' });
    mover.moves$.subscribe(({ type }) => {
      if (type === 'frozen') process.delay = () => 200;
    });
    const frozen = new Promise<void>((resolve) => mover.moves$.subscribe(({ type }) => type === 'frozen' && resolve()));
    const moving = mover.move();
    await eventually(frozen);
    expect(await read(store, 'a')).toBe('before');
    let isCommitted = false;
    const commit = put(store, { a: 'after' }).then(() => (isCommitted = true));
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(isCommitted).toBe(false);
    process.delay = () => 0;
    await eventually(Promise.all([moving, commit]));
    expect((await from.contents()).get('a')).toBe('before');
    expect((await to.contents()).get('a')).toBe('after');
  });

  it('ends a freeze by itself whose mover has died, and another process moves it', async () => {
    const process = new Process();
    const [mover, store] = [await instance(process), await instance()];
    await fill(store, 20);
    mover.moves$.subscribe(({ type }) => {
      if (type === 'frozen') process.isDead = true;
    });
    expect(await codeOf(eventually(mover.move()))).toBe('STORE_UNAVAILABLE');
    expect(await store.phase()).toBe('frozen');
    await eventually(put(store, { a: 'not lost' }));
    expect(await store.phase()).toBe('copying');
    await eventually(store.move());
    expect((await to.contents()).get('a')).toBe('not lost');
  });

  it('tells those who wait when the freeze does not end', async () => {
    const process = new Process();
    const [mover, store] = [await instance(process), await instance()];
    await put(store, { a: 'value' });
    mover.moves$.subscribe(({ type }) => {
      if (type === 'frozen') process.isDead = true;
    });
    expect(await codeOf(eventually(mover.move()))).toBe('STORE_UNAVAILABLE');
    const { value } = (await from.get('moving/phase')) ?? { value: Buffer.alloc(0) };
    // Frozen again and again, by whomever.
    let isWaiting = true;
    const commit = codeOf(put(store, { a: 'waits' })).finally(() => (isWaiting = false));
    for (let step = 0; step < 500 && isWaiting; step += 1) {
      await from.put('moving/phase', Buffer.from(value).toString());
      await clock.advance(100);
    }
    expect(await commit).toBe('STORE_UNAVAILABLE');
    expect((await from.contents()).get('a')).toBe('value');
  });

  it('can be given up before its end', async () => {
    const process = new Process();
    const [mover, store] = [await instance(process), await instance()];
    await fill(store, 300);
    const stop = stopBefore(process, 5);
    const moving = codeOf(mover.move());
    await eventually(stop.reached);
    await store.giveUp();
    stop.goOn();
    expect(await eventually(moving)).toBe('STORE_MOVE_BUSY');
    expect(await store.phase()).toBe('none');
    // What was copied is in the way of another move.
    expect(await codeOf(eventually(store.move()))).toBe('STORE_MOVE_REFUSED');
    const empty = await new Database('empty').start();
    const again = await instance(new Process(), { from, to: empty });
    await eventually(again.move());
    expect(await empty.contents()).toEqual(await from.contents());
    expect(await codeOf(again.giveUp())).toBe('STORE_MOVE_REFUSED');
  });

  it('is not moved to a store that holds anything', async () => {
    await to.put('of/somebody', 'else');
    const store = await instance();
    expect(await codeOf(eventually(store.move()))).toBe('STORE_MOVE_REFUSED');
    expect(await store.phase()).toBe('none');
  });

  it('keeps the process alive until it is over, and no longer', async () => {
    const store = await instance();
    await fill(store, 3);
    const moving = store.move();
    expect(clock.holds).toBe(1);
    await eventually(moving);
    expect(clock.holds).toBe(0);
  });

  it('is moved by one process at a time', async () => {
    const process = new Process();
    const [one, other] = [await instance(process), await instance()];
    await fill(one, 300);
    const stop = stopBefore(process, 4);
    const moving = one.move();
    await stop.reached;
    // It lives and says so, as by every third of its lease.
    const second = codeOf(other.move());
    await clock.advance(LEASE_MS / 4);
    stop.goOn();
    await eventually(moving);
    expect(await eventually(second)).toMatch(/STORE_MOVE_BUSY|nothing was thrown/);
    expect(await to.contents()).toEqual(await from.contents());
  });

  it('is left to a mover that is slow and alive', async () => {
    const process = new Process();
    const [one, other] = [await instance(process), await instance()];
    await fill(one, 730);
    const begun = new Promise<void>((resolve) => one.moves$.subscribe(({ type }) => type === 'copying' && resolve()));
    process.delay = () => 40;
    const moving = one.move();
    moving.catch(() => undefined);
    await eventually(begun);
    expect(await codeOf(eventually(other.move()))).toBe('STORE_MOVE_BUSY');
    process.delay = () => 0;
    await eventually(moving);
    expect(await other.phase()).toBe('moved');
  });

  it('shows nothing of the move to those above, and takes nothing of theirs there', async () => {
    const store = await instance();
    await put(store, { 'instance/a': 'beat', moz: 'before', mow: 'after' });
    await eventually(store.move());
    const keys = (await store.list({ prefix: '', limit: 1000 })).map(({ key }) => key);
    expect(keys).toEqual(['instance/a', 'mow', 'moz']);
    expect((await store.list({ prefix: '', limit: 1, after: 'instance/a' })).map(({ key }) => key)).toEqual(['mow']);
    expect(await store.get('moving/arrival')).toBeUndefined();
    expect(await codeOf(put(store, { 'moving/phase': 'x' }))).toBe('STORE_REQUEST_INVALID');
  });

  it('needs the old store no more once everyone has heard, and goes on counting', async () => {
    const store = await instance();
    for (let round = 0; round < 30; round += 1) await put(store, { a: `${round}` });
    await eventually(store.move());
    const revision = await store.revision();
    const gone = new Process();
    gone.isDead = true;
    const late = movingStore({ from: from.door(gone), to: to.door(), clock });
    await late.open();
    opened.push(late);
    expect(await late.revision()).toBe(revision);
    expect(await read(late, 'a')).toBe('29');
    expect(await late.move()).toMatchObject({ entries: 1 });
  });

  it('finds out from the new store when the old one was switched off before it had heard', async () => {
    const process = new Process();
    const gone = { from: from.door(process), to: to.door() };
    const [mover, store] = [await instance(), movingStore({ ...gone, clock })];
    await store.open();
    opened.push(store);
    await put(store, { a: 'value' });
    process.delay = () => 100_000;
    const moving = eventually(mover.move());
    await moving;
    process.delay = () => 0;
    process.isDead = true;
    expect(await read(store, 'a')).toBe('value');
    await put(store, { b: 'value' });
    expect((await to.contents()).get('b')).toBe('value');
  });

  it('moves on, and back, and still counts on', async () => {
    const first = await instance();
    for (let round = 0; round < 30; round += 1) await put(first, { a: `${round}` });
    await eventually(first.move());
    const highest = await first.revision();
    const third = await new Database('third').start();
    const second = await instance(new Process(), { from: to, to: third });
    expect(await second.revision()).toBeGreaterThanOrEqual(highest);
    await eventually(second.move());
    expect(await second.revision()).toBeGreaterThan(highest);
    expect(await third.contents()).toEqual(await from.contents());
    expect(await codeOf(instance())).toBe('STORE_MOVED');
  });
});

describe('a mover that dies', () => {
  /** How many commits a whole move takes. */
  async function effectsOfAMove(): Promise<number> {
    const process = new Process();
    const store = await instance(process);
    await fill(store, 260);
    let count = 0;
    process.effect = (side) => void (count += side === 'before' ? 1 : 0);
    await eventually(store.move());
    from = await new Database('old').start();
    to = await new Database('new').start();
    return count;
  }

  it('leaves nothing half done at any of its effects: another process goes on', async () => {
    const effects = await effectsOfAMove();
    expect(effects).toBeGreaterThan(8);
    for (const deadly of ['before', 'after'] as const) {
      for (let at = 1; at <= effects; at += 1) {
        const process = new Process();
        const [mover, store] = [await instance(process), await instance()];
        await fill(store, 260);
        let seen = 0;
        process.effect = (side) => {
          if (side === 'before') seen += 1;
          if (side === deadly && seen === at) process.isDead = true;
        };
        const died = await codeOf(eventually(mover.move()));
        expect(process.isDead ? died : 'it did not die').toMatch(/STORE_UNAVAILABLE|nothing was thrown/);
        await eventually(put(store, { 'secret/1': `written after the death ${deadly} ${at}`, 'secret/2': null }));
        const report = await eventually(store.move());
        expect(report.entries).toBeGreaterThan(0);
        const contents = await to.contents();
        expect(contents.get('secret/1')).toBe(`written after the death ${deadly} ${at}`);
        expect(contents.has('secret/2')).toBe(false);
        expect(contents.size).toBe(259);
        expect(JSON.parse(Buffer.from((await to.get('moving/arrival'))?.value ?? []).toString())).toMatchObject({
          state: 'arrived',
        });
        from = await new Database('old').start();
        to = await new Database('new').start();
      }
    }
  }, 120_000);

  it('writes nothing to the new store any more once another has taken over', async () => {
    const process = new Process();
    const [slow, other] = [await instance(process), await instance()];
    await fill(other, 300);
    // Stopped in its first commit to the new store that copies something.
    let stopped: (() => void) | undefined;
    let copies = 0;
    const reached = new Promise<void>((resolve) => {
      process.effect = (side, store) => {
        if (side !== 'before' || store !== 'new' || (copies += 1) !== 2) return undefined;
        resolve();
        return new Promise<void>((release) => (stopped = release));
      };
    });
    const stale = codeOf(slow.move());
    await eventually(reached);
    await put(other, { 'secret/1': 'newer' });
    await eventually(other.move());
    await put(other, { 'secret/1': 'newest' });
    stopped?.();
    expect(await eventually(stale)).toBe('STORE_MOVE_BUSY');
    expect((await to.contents()).get('secret/1')).toBe('newest');
  });
});
