import type { ClosedConnection } from './connection-register.js';

/** How connections of older versions leave a pool. */
export interface Renewal<C> {
  /** There may be connections of an older version. With a delay, in milliseconds, when there is no hurry. */
  wake(delayMs?: number): void;
  /** Asked as a connection comes back: true when it has to leave instead of being used again. */
  claims(client: C): boolean;
  /** Told when the socket of a connection has closed. */
  closed(client: C, connection: ClosedConnection): void;
  /** Ends the idle connections that are not to be used any more, without replacing them. */
  dropIdle(isStale: (client: C) => boolean): Promise<void>;
  stop(): void;
}
