import { describe, expect, it } from '@jest/globals';
import { memoryStore, type StoreCommit } from '@nestjs-secrets/core';
import { EventQueue } from '../src/simulation/event-queue.js';
import { SeededRandom } from '../src/simulation/seeded-random.js';
import { SimulatedProcess } from '../src/simulation/simulated-process.js';
import { StoreContents } from '../src/simulation/store-contents.js';

describe('EventQueue', () => {
  it('runs events by their time, and those of one time in the order they were asked for', async () => {
    const queue = new EventQueue();
    const random = new SeededRandom(1);
    const seen: { at: number; order: number }[] = [];
    for (let order = 0; order < 500; order += 1) {
      const at = random.below(40);
      queue.after(at, 'event', () => seen.push({ at: queue.now, order }));
    }
    await queue.run(() => false);
    const sorted = [...seen].sort((one, other) => one.at - other.at || one.order - other.order);
    expect(seen).toEqual(sorted);
    expect(seen).toHaveLength(500);
  });

  it('runs nothing that was taken back', async () => {
    const queue = new EventQueue();
    const seen: string[] = [];
    const cancel = queue.after(2, 'event', () => seen.push('taken back'));
    queue.after(1, 'event', () => cancel());
    queue.after(3, 'event', () => seen.push('kept'));
    await queue.run(() => false);
    expect(seen).toEqual(['kept']);
    expect(queue.events).toBe(2);
  });

  it('lets chains of promises come to rest between two events, however long they are', async () => {
    const queue = new EventQueue();
    const seen: string[] = [];
    queue.after(1, 'event', () => {
      const chain = async (): Promise<void> => {
        for (let turn = 0; turn < 1_000; turn += 1) await Promise.resolve();
        seen.push('the end of the chain');
      };
      void chain();
    });
    queue.after(1, 'event', () => seen.push('the next event'));
    await queue.run(() => false);
    expect(seen).toEqual(['the end of the chain', 'the next event']);
  });
});

describe('SimulatedProcess', () => {
  const world = (): { queue: EventQueue; process: SimulatedProcess; seen: string[] } => {
    const queue = new EventQueue();
    return { queue, process: new SimulatedProcess('p1', queue, { skewMs: 5_000, rate: 2 }, 1), seen: [] };
  };

  it('keeps what reaches it while it is stopped, and gets it all at once when it goes on', async () => {
    const { queue, process, seen } = world();
    for (const at of [1, 2, 30])
      queue.after(at, 'event', () => process.deliver(() => seen.push(`${at} at ${queue.now}`)));
    queue.after(1.5, 'event', () => process.stop());
    queue.after(20, 'event', () => process.goOn());
    await queue.run(() => false);
    expect(seen).toEqual(['1 at 1', '2 at 20', '30 at 30']);
  });

  it('hears of nothing once it was killed, not even of what was kept for it', async () => {
    const { queue, process, seen } = world();
    queue.after(1, 'event', () => process.stop());
    queue.after(2, 'event', () => process.deliver(() => seen.push('kept')));
    process.clock.after(10, () => seen.push('a timer'));
    queue.after(3, 'event', () => process.kill());
    queue.after(4, 'event', () => process.goOn());
    await queue.run(() => false);
    expect(seen).toEqual([]);
  });

  it('has clocks of its own: ahead of the world, and twice as fast', async () => {
    const { queue, process, seen } = world();
    const [wall, monotonic] = [process.clock.now(), process.clock.monotonic()];
    process.clock.after(100, () => {
      seen.push(`${process.clock.now() - wall} ${process.clock.monotonic() - monotonic} in ${queue.now}`);
    });
    await queue.run(() => false);
    expect(seen).toEqual(['100 100 in 50']);
  });
});

describe('StoreContents', () => {
  it('does what the memory driver does', async () => {
    const random = new SeededRandom(42);
    const contents = new StoreContents();
    const driver = memoryStore();
    await driver.open();
    const key = (): string => `${random.pick(['a/', 'b/', 'b/c'])}${random.below(5)}`;
    for (let step = 0; step < 3_000; step += 1) {
      const keys = [...new Set([key(), key()])];
      const conditions: StoreCommit['conditions'][number][] = [];
      for (const conditioned of [key(), key()].slice(random.below(3))) {
        const known = contents.get(conditioned)?.revision ?? 0;
        conditions.push({ key: conditioned, revision: random.chance(0.8) ? known : random.below(step + 1) });
      }
      const writes = keys.map((written) => ({
        key: written,
        value: random.chance(0.3) ? null : random.bytes(random.below(4)),
      }));
      const commit = { conditions, writes: random.chance(0.1) ? [] : writes };
      expect(contents.commit(commit)).toBe(await driver.commit(commit));
      expect(contents.revision).toBe(await driver.revision());
      const asked = key();
      expect(plain(contents.get(asked))).toEqual(plain(await driver.get(asked)));
      const list = {
        prefix: random.pick(['', 'a/', 'b/']),
        limit: 1 + random.below(6),
        after: random.pick([undefined, key()]),
      };
      expect(contents.list(list).map(plain)).toEqual((await driver.list(list)).map(plain));
    }
    await driver.close();
  });

  function plain(entry: { readonly value: Uint8Array } | undefined): unknown {
    return entry && { ...entry, value: [...entry.value] };
  }
});
