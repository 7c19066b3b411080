import type pg from 'pg';

export type ReleaseClient = (destroy?: Error | boolean) => void;
export type ConnectCallback = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  release: ReleaseClient,
) => void;

/** What rolling needs of pg-pool beyond its public face. */
export interface PoolInternals {
  /** Opens one connection more, even when the pool is full, and hands it to the callback as if it had asked for it. */
  open(callback: ConnectCallback): void;
  /** The idle connections, the one idle for the longest first. */
  idle(): pg.ClientBase[];
  /** Takes an idle connection out and ends it. */
  evict(client: pg.ClientBase): void;
}

interface PgPoolPrivates {
  newClient(pendingItem: { callback: ConnectCallback }): void;
  readonly _idle: readonly { readonly client: pg.ClientBase }[];
  _remove(client: pg.ClientBase, callback: () => void): void;
  _pulseQueue(): void;
}

/**
 * The private members of pg-pool that a roll uses, all in this one place. Tested with pg-pool 3.6.2, 3.10.1 and 3.14.0; a contract
 * test holds them against the installed one. Undefined when a version lacks them: the pool then does without rolling.
 */
export function poolInternals(pool: pg.Pool): PoolInternals | undefined {
  if (!hasPrivates(pool)) return undefined;
  const privates: PgPoolPrivates = pool;
  return {
    open: (callback) => privates.newClient({ callback }),
    idle: () => privates._idle.map((item) => item.client),
    evict: (client) => privates._remove(client, () => privates._pulseQueue()),
  };
}

function hasPrivates(pool: object): pool is PgPoolPrivates {
  return (
    'newClient' in pool &&
    typeof pool.newClient === 'function' &&
    pool.newClient.length === 1 &&
    '_idle' in pool &&
    Array.isArray(pool._idle) &&
    '_remove' in pool &&
    typeof pool._remove === 'function' &&
    '_pulseQueue' in pool &&
    typeof pool._pulseQueue === 'function'
  );
}
