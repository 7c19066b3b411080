import { expect } from '@jest/globals';
import type { StoreDriver } from '@nestjs-secrets/core';
import { eventually, put, type Heard } from './store-faults.js';

export const everyCall = (store: StoreDriver): Promise<unknown>[] => [
  store.get('secret/A'),
  store.list({ prefix: 'secret/', limit: 10 }),
  store.revision(),
  put(store, 'secret/A', 'during the outage'),
];

/** Every kind of call is refused, several times over, so that each connection of the pool meets the outage. */
export async function expectRefusals(store: StoreDriver): Promise<void> {
  for (let round = 0; round < 3; round++) {
    for (const result of await Promise.allSettled([...everyCall(store), ...everyCall(store)])) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'STORE_UNAVAILABLE' } });
    }
  }
}

/** The store works again, and its watchers are told to look at everything, and later of the commits of others. */
export async function expectEverythingWorks(
  store: StoreDriver,
  heard: Heard,
  connectOther: () => Promise<StoreDriver>,
): Promise<void> {
  await eventually(
    'a commit',
    async () => (await put(store, 'secret/A', 'after').catch(() => undefined)) !== undefined,
  );
  await heard.everything();
  const other = await connectOther();
  await eventually('a hint at a commit of another process', async () => {
    await put(other, 'secret/Told').catch(() => undefined);
    return heard.keys.includes('secret/Told');
  });
  await other.close();
  // A connection that died without a word may still be among those of the pool, and costs one call.
  await eventually('no call that fails', async () => {
    const results = await Promise.allSettled(everyCall(store));
    return results.every((result) => result.status === 'fulfilled');
  });
}
