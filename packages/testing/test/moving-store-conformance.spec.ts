import { describe, expect, it } from '@jest/globals';
import { memoryStore, movingStore, type MovingStore, type StoreDriver } from '@nestjs-secrets/core';
import { storeDriverConformance, type StoreDriverHarness } from '../src/store-driver-conformance.js';

/** A database that each process opens and closes on its own. */
async function database(): Promise<{ readonly door: () => StoreDriver; readonly close: () => Promise<void> }> {
  const data = memoryStore();
  await data.open();
  const door = (): StoreDriver => {
    const ends = new Set<() => void>();
    return {
      name: 'memory',
      open: async () => undefined,
      close: async () => {
        for (const end of ends) end();
      },
      get: (key) => data.get(key),
      list: (options) => data.list(options),
      commit: (commit) => data.commit(commit),
      revision: () => data.revision(),
      watch(onHint, prefixes) {
        const end = data.watch(onHint, prefixes);
        ends.add(end);
        return end;
      },
    };
  };
  return { door, close: () => data.close() };
}

/** What a store that is, or was, moved promises in another way, and why. */
const OTHERWISE: Readonly<Record<string, string>> = {
  'starts at revision 0 and grows with every commit that writes': 'what is said of the move is a commit',
  'refuses keys out of range with STORE_REQUEST_INVALID': 'expects revision 0 afterwards',
  'refuses limits, revisions and values out of range with STORE_REQUEST_INVALID': 'expects revision 0 afterwards',
  'refuses a commit that writes a key twice, and does nothing of it': 'expects revision 0 afterwards',
};

type Phase = 'before' | 'during' | 'after';

function harness(phase: Phase): StoreDriverHarness {
  return {
    shared: true,
    async createStore() {
      const [from, to] = [await database(), await database()];
      const connect = (): MovingStore => movingStore({ from: from.door(), to: to.door() });
      if (phase !== 'before') {
        const mover = connect();
        await mover.open();
        if (phase === 'after') await mover.move();
        else {
          // As a mover leaves it that dies once it has begun to copy.
          const copying = { format: 1, phase: 'copying', id: 'one', to: 'memory', freezeMs: 10_000 };
          const writes = [{ key: 'moving/phase', value: Buffer.from(JSON.stringify(copying)) }];
          await from.door().commit({ conditions: [], writes });
        }
        await mover.close();
      }
      return {
        connect,
        dispose: async () => {
          await from.close();
          await to.close();
        },
      };
    },
  };
}

describe.each<Phase>(['before', 'during', 'after'])('a moving store is a store driver, %s the move', (phase) => {
  const cases = storeDriverConformance(harness(phase));
  for (const { name, run } of cases) if (phase === 'before' || !(name in OTHERWISE)) it(name, run);

  it('but for what it promises otherwise', () => {
    const names = new Set(cases.map(({ name }) => name));
    expect(Object.keys(OTHERWISE).filter((name) => !names.has(name))).toEqual([]);
  });
});
