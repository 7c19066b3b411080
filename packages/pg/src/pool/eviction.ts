import type { ConnectionRegister, CredentialChoice, Renewal } from '@nestjs-secrets/core';
import type pg from 'pg';
import type { ConnectCallback, ReleaseClient } from './pool-internals.js';

/**
 * What a pool does when pg-pool lacks the members a roll needs: old connections end as they come back, and idle ones one at a time, with
 * no replacement opened beforehand. Works with the public face of pg-pool alone, at the price of a log-in for whoever comes next.
 */
export class Eviction implements Renewal<pg.ClientBase> {
  readonly #pool: { readonly idleCount: number };
  readonly #register: ConnectionRegister<pg.ClientBase>;
  readonly #choice: CredentialChoice;
  readonly #connect: (callback: ConnectCallback) => void;
  readonly #evicting = new Set<pg.ClientBase>();
  #stopped = false;

  constructor(
    pool: { readonly idleCount: number },
    register: ConnectionRegister<pg.ClientBase>,
    choice: CredentialChoice,
    connect: (callback: ConnectCallback) => void,
  ) {
    this.#pool = pool;
    this.#register = register;
    this.#choice = choice;
    this.#connect = connect;
  }

  wake(): void {
    if (this.#stopped || this.#evicting.size > 0) return;
    // The idle connections can only be had by asking for all of them: pg-pool gives out the one used last.
    for (let asked = this.#pool.idleCount; asked > 0; asked -= 1) {
      this.#connect((error, client, release) => {
        if (error || client === undefined) return;
        const evict = this.#evicting.size === 0 && this.claims(client);
        if (evict) this.#evicting.add(client);
        release(evict);
      });
    }
  }

  claims(client: pg.ClientBase): boolean {
    return this.#register.isOld(client, this.#choice.currentVersionId);
  }

  closed(client: pg.ClientBase): void {
    if (this.#evicting.delete(client)) this.wake();
  }

  async dropIdle(isStale: (client: pg.ClientBase) => boolean): Promise<void> {
    const asked = Array.from({ length: this.#pool.idleCount }, () => this.#ask());
    // Only given back together, or the first would be handed out again in place of the second.
    for (const { client, release } of await Promise.all(asked)) release(client !== undefined && isStale(client));
  }

  #ask(): Promise<{ client: pg.PoolClient | undefined; release: ReleaseClient }> {
    return new Promise((resolve) => this.#connect((_error, client, release) => resolve({ client, release })));
  }

  stop(): void {
    this.#stopped = true;
  }
}
