/** Where a child finds a store that somebody else has filled, and what it is to do with it. No value stands in here. */
export interface HeapOrder {
  readonly store: string;
  readonly keys: string;
  readonly secretName: string;
  /** Snapshots go here. */
  readonly whileOpen: string;
  readonly afterClose: string;
}
