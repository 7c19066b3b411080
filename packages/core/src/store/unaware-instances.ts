import { StoreMoveError } from './move-errors.js';
import { INSTANCE_PREFIX, THROUGH_PREFIX } from './move-records.js';
import type { StoreDriver } from './store-driver.js';
import { STORE_LIST_LIMIT } from './store-request.js';

const NAMED = 10;

/**
 * Every process must know of a move: one that does not would go on with the old store.
 * @throws StoreMoveError `STORE_MOVE_REFUSED`
 */
export async function refuseUnaware(from: StoreDriver): Promise<void> {
  const [instances, aware] = [await namesIn(from, INSTANCE_PREFIX), new Set(await namesIn(from, THROUGH_PREFIX))];
  const unaware = instances.filter((id) => !aware.has(id));
  if (unaware.length === 0) return;
  const more = unaware.length > NAMED ? ` and ${unaware.length - NAMED} more` : '';
  throw new StoreMoveError(
    'STORE_MOVE_REFUSED',
    `These instances use the old store without movingStore: ${unaware.slice(0, NAMED).join(', ')}${more}. Deploy movingStore({ from, to }) to all of them first; one that was stopped in a hurry is off the list within a few lease times.`,
  );
}

async function namesIn(store: StoreDriver, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for (let after: string | undefined; ;) {
    const page = await store.list({ prefix, limit: STORE_LIST_LIMIT, ...(after === undefined ? {} : { after }) });
    names.push(...page.map(({ key }) => key.slice(prefix.length)));
    if (page.length < STORE_LIST_LIMIT) return names;
    after = page.at(-1)?.key;
  }
}
