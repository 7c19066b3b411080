import type { StoreDriver } from '@nestjs-secrets/core';

/** One store, empty at first. */
export interface ConformanceStore {
  /** A new driver on this store, not opened yet; called once only for stores that are not `shared`. The suite opens and closes it. */
  connect(): StoreDriver;
  /** Removes the store; every driver is closed by then. */
  dispose(): Promise<void>;
}
