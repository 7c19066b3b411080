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
  /** Opened with a candidate, since the version that was current then was refused. */
  readonly standIn: boolean;
  state: ConnectionState;
  /** Whether the log-in was through at any time. */
  opened: boolean;
}

export interface RegisterListener<C> {
  /** A version got its first connection, or lost its last. */
  generationsChanged(): void;
  /** The socket of a connection has closed. `wasOpen` is false after a log-in that failed. */
  closed(client: C, versionId: string, wasOpen: boolean): void;
}

/** Every connection of a pool with the version that opened it, from the moment it is begun until its socket has closed. */
export class ConnectionRegister<C> {
  readonly #connections = new Map<C, Connection>();
  #listener: RegisterListener<C> | undefined;
  #emptied: (() => void) | undefined;

  listen(listener: RegisterListener<C>): void {
    this.#listener = listener;
  }

  add(client: C, versionId: string, standIn: boolean): void {
    const isFirst = !this.#holds(versionId);
    this.#connections.set(client, { versionId, standIn, state: 'opening', opened: false });
    if (isFirst) this.#listener?.generationsChanged();
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
    this.#connections.delete(client);
    this.#listener?.closed(client, connection.versionId, connection.opened);
    if (this.#connections.size === 0) this.#emptied?.();
    if (!this.#holds(connection.versionId)) this.#listener?.generationsChanged();
  }

  /** Resolves when no socket is open any more. */
  empty(): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => (this.#emptied = resolve));
  }

  versionOf(client: C): string | undefined {
    return this.#connections.get(client)?.versionId;
  }

  isStandIn(client: C): boolean {
    return this.#connections.get(client)?.standIn ?? false;
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

  /** How many connections in use were opened with another version: those still logging in may fail, and those leaving are as good as gone. */
  countOthers(versionId: string): number {
    let count = 0;
    for (const connection of this.#connections.values()) {
      if (connection.versionId !== versionId && (connection.state === 'idle' || connection.state === 'busy'))
        count += 1;
    }
    return count;
  }

  versionIds(): Set<string> {
    return new Set([...this.#connections.values()].map((connection) => connection.versionId));
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

  #holds(versionId: string): boolean {
    for (const connection of this.#connections.values()) if (connection.versionId === versionId) return true;
    return false;
  }
}
