import {
  type Clock,
  cryptoRandomness,
  ephemeralKeys,
  type IntegrityEvent,
  type IntegrityOptions,
  type KeyProvider,
  memoryStore,
  randomIds,
  type StoreDriver,
  StoreIntegrity,
  systemClock,
} from '@nestjs-secrets/core';

/** A store that can be opened by one process after the other, as the database under it would be. */
export function lasting(store: StoreDriver): StoreDriver {
  return {
    name: store.name,
    open: async () => undefined,
    close: async () => undefined,
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    commit: (commit) => store.commit(commit),
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
  };
}

export async function openMemory(): Promise<StoreDriver> {
  const store = memoryStore();
  await store.open();
  return lasting(store);
}

export interface OpenedIntegrity {
  readonly integrity: StoreIntegrity;
  readonly sealed: StoreDriver;
  readonly events: IntegrityEvent[];
}

/** What a process has that opens a store. */
export async function openIntegrity(
  store: StoreDriver,
  keys: KeyProvider = ephemeralKeys(),
  options: IntegrityOptions = {},
  clock: Clock = systemClock,
): Promise<OpenedIntegrity> {
  const events: IntegrityEvent[] = [];
  const integrity = new StoreIntegrity(
    { store, clock, randomness: cryptoRandomness },
    { ...options, onEvent: (event) => events.push(event) },
  );
  await integrity.store.open();
  await integrity.open({ keys, randomness: cryptoRandomness, newStoreId: randomIds.next(), now: Date.now() });
  return { integrity, sealed: integrity.store, events };
}

export async function put(store: StoreDriver, entries: Readonly<Record<string, string | null>>): Promise<number> {
  const writes = Object.entries(entries).map(([key, text]) => ({
    key,
    value: text === null ? null : Buffer.from(text),
  }));
  const revision = await store.commit({ conditions: [], writes });
  if (revision === undefined) throw new Error('A commit without conditions did not go through.');
  return revision;
}

export async function read(store: StoreDriver, key: string): Promise<string | undefined> {
  const entry = await store.get(key);
  return entry && Buffer.from(entry.value).toString();
}
