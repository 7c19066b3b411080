import type { StoreDriver } from '@nestjs-secrets/core';

/**
 * What can befall a store on a server:
 * - `cut-off`: nobody reaches it for a while; the store has `cutOff`
 * - `crash`: it is killed with SIGKILL and started again; the store has `crash`
 */
export type StoreFault = 'cut-off' | 'crash';

/** Ends a fault. */
export type Mend = () => Promise<void>;

/** One store, empty at first. */
export interface ConformanceStore {
  /** A new driver on this store, not opened yet; called once only for stores that are not `shared`. The suite opens and closes it. */
  connect(): StoreDriver;
  /** Removes the store; every driver is closed by then. */
  dispose(): Promise<void>;
  /**
   * From now on no driver reaches the server. `refused`: connections are reset, and new ones too. `silent`: nothing arrives any more, in either
   * direction, and nobody is told; connections of before stay silent for ever.
   */
  cutOff?(how: 'refused' | 'silent'): Promise<Mend>;
  /** Kills the server with SIGKILL; the function returned starts it again on what is on its disk. */
  crash?(): Promise<Mend>;
}
