import type { SeededRandom } from '../simulation/seeded-random.js';
import type { FuzzedStore } from './fuzzed-store.js';

/** What was done to a store, in words, and whom it may concern. */
export interface StoreMutation {
  readonly what: string;
  /** The keys whose entries are not what they were. */
  readonly keys: readonly string[];
}

/** Entries as they once were, to be put back. */
export type History = ReadonlyMap<string, readonly Uint8Array[]>;

/** Only what proves other entries stands in two places, of which one is left: both changed at once is a store that stays shut, and says so. */
const IN_TWO_PLACES = /^(store|integrity\/(store|root|top|key|key-copy))$/;

/** Does one thing to the bytes of a store. */
export function mutateStore(store: FuzzedStore, random: SeededRandom, history: History): StoreMutation {
  const keys = store.keys();
  const key = random.pick(keys);
  const keepsRevision = random.chance(0.5);
  const value = store.get(key)?.value ?? new Uint8Array(0);
  const put = (what: string, bytes: Uint8Array | undefined): StoreMutation => {
    store.tamper(key, bytes, keepsRevision);
    return { what: `${what} ${key}`, keys: [key] };
  };
  const changed = Uint8Array.from(value);
  const at = random.below(Math.max(1, value.length));
  switch (random.below(11)) {
    case 0:
    case 1:
      changed[at] = (changed[at] ?? 0) ^ (1 << random.below(8));
      return put(`bit of byte ${at} flipped in`, changed);
    case 2:
      changed[at] = random.below(256);
      return put(`byte ${at} replaced in`, changed);
    case 3:
      return put(`cut off at byte ${at}:`, changed.slice(0, at));
    case 4: {
      const added = random.bytes(1 + random.below(64));
      return put(`bytes inserted at ${at} in`, Buffer.concat([changed.subarray(0, at), added, changed.subarray(at)]));
    }
    case 5:
      changed.fill(random.chance(0.5) ? 0 : 0xff, at, at + 1 + random.below(32));
      return put(`a run from byte ${at} overwritten in`, changed);
    case 6:
      return put('random bytes in', random.bytes(random.below(200)));
    case 7:
      return put('removed:', undefined);
    case 8: {
      const older = history.get(key) ?? [];
      return older.length === 0 ? put('removed:', undefined) : put('put back:', random.pick(older));
    }
    case 9: {
      const source = random.pick(keys);
      return put(`the bytes of ${source} put into`, store.get(source)?.value);
    }
    default:
      return swap(store, random, key, keys, keepsRevision);
  }
}

/** Records with records, and nodes with nodes. A node that is lost together with a record below it leaves nobody to tell what either was: see docs/integrity.md. */
function swap(
  store: FuzzedStore,
  random: SeededRandom,
  key: string,
  keys: readonly string[],
  keepsRevision: boolean,
): StoreMutation {
  if (IN_TWO_PLACES.test(key)) {
    store.tamper(key, undefined, keepsRevision);
    return { what: `removed: ${key}`, keys: [key] };
  }
  const isNode = (one: string): boolean => one.startsWith('integrity/');
  const other = random.pick(keys.filter((one) => !IN_TWO_PLACES.test(one) && isNode(one) === isNode(key)));
  const [one, two] = [store.get(key)?.value, store.get(other)?.value];
  store.tamper(key, two, keepsRevision);
  store.tamper(other, one, keepsRevision);
  return { what: `swapped ${key} and ${other}`, keys: [key, other] };
}
