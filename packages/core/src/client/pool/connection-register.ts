/** How many connections of one credential version a pool has. */
export interface PoolGeneration {
  /** All whose socket is open: also those still logging in, and those already leaving. */
  readonly total: number;
  readonly idle: number;
  readonly busy: number;
}

type ConnectionState = 'opening' | 'idle' | 'busy' | 'leaving';

interface Connection {
  readonly versionId: string;
  /** The version that was current and refused, of a connection that was opened with a candidate. */
  readonly insteadOf: string | undefined;
  state: ConnectionState;
  /** Whether the log-in was through at any time. */
  opened: boolean;
}

/** A connection whose socket has closed. */
export interface ClosedConnection {
  readonly versionId: string;
  readonly isStandIn: boolean;
  /** False after a log-in that failed. */
  readonly wasOpen: boolean;
}

export interface RegisterListener<C> {
  /** A version got its first connection, or lost its last. */
  generationsChanged(): void;
  closed(client: C, connection: ClosedConnection): void;
}

/**
 * Every connection of a pool with the version that opened it, from the moment it is begun until its socket has closed.
 *
 * A stand-in, opened with a candidate in place of the current version, is never up to date, not even once its version is current: where one password
 * changes, the server can tell sessions of the old one only by when they began, and those that began before promotion must be gone by then.
 */
export class ConnectionRegister<C> {
  readonly #connections = new Map<C, Connection>();
  #listener: RegisterListener<C> | undefined;
  #emptied: (() => void) | undefined;

  listen(listener: RegisterListener<C>): void {
    this.#listener = listener;
  }

  add(client: C, versionId: string, currentVersionId: string): void {
    const before = this.versionIds();
    const insteadOf = versionId === currentVersionId ? undefined : currentVersionId;
    this.#connections.set(client, { versionId, insteadOf, state: 'opening', opened: false });
    if (this.versionIds().size > before.size) this.#listener?.generationsChanged();
  }

  mark(client: C, state: 'idle' | 'busy' | 'leaving'): void {
    const connection = this.#connections.get(client);
    if (connection === undefined || connection.state === 'leaving') return;
    connection.state = state;
    if (state !== 'leaving') connection.opened = true;
  }

  closed(client: C): void {
    const connection = this.#connections.get(client);
    if (connection === undefined) return;
    const { versionId, insteadOf, opened } = connection;
    const before = this.versionIds();
    this.#connections.delete(client);
    this.#listener?.closed(client, { versionId, isStandIn: insteadOf !== undefined, wasOpen: opened });
    if (this.#connections.size === 0) this.#emptied?.();
    if (this.versionIds().size < before.size) this.#listener?.generationsChanged();
  }

  /** Resolves when no socket is open any more. */
  empty(): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => (this.#emptied = resolve));
  }

  isStandIn(client: C): boolean {
    return this.#connections.get(client)?.insteadOf !== undefined;
  }

  /** Whether it was opened with another version than the current one, or as a stand-in. False for a connection that is not known. */
  isOld(client: C, currentVersionId: string): boolean {
    const connection = this.#connections.get(client);
    return connection !== undefined && isOld(connection, currentVersionId);
  }

  /** False for a connection that is leaving or has closed. */
  isUsable(client: C): boolean {
    const state = this.#connections.get(client)?.state;
    return state !== undefined && state !== 'leaving';
  }

  /** The same clients, those whose connection was begun first in front. */
  byAge(clients: readonly C[]): C[] {
    const wanted = new Set(clients);
    return [...this.#connections.keys()].filter((client) => wanted.has(client));
  }

  /** How many old connections are in use: those still logging in may fail, and those leaving are as good as gone. */
  countOld(currentVersionId: string): number {
    let count = 0;
    for (const connection of this.#connections.values()) {
      const isInUse = connection.state === 'idle' || connection.state === 'busy';
      if (isInUse && isOld(connection, currentVersionId)) count += 1;
    }
    return count;
  }

  /** The versions that must not be retired yet: those of all connections, and those that stand-ins stand in for. */
  versionIds(): Set<string> {
    const held = new Set<string>();
    for (const { versionId, insteadOf } of this.#connections.values()) {
      held.add(versionId);
      if (insteadOf !== undefined) held.add(insteadOf);
    }
    return held;
  }

  generations(): ReadonlyMap<string, PoolGeneration> {
    const generations = new Map<string, { total: number; idle: number; busy: number }>();
    for (const { versionId, state } of this.#connections.values()) {
      const generation = generations.get(versionId) ?? { total: 0, idle: 0, busy: 0 };
      generation.total += 1;
      if (state === 'idle' || state === 'busy') generation[state] += 1;
      generations.set(versionId, generation);
    }
    return generations;
  }
}

function isOld({ versionId, insteadOf }: Connection, currentVersionId: string): boolean {
  return versionId !== currentVersionId || insteadOf !== undefined;
}
