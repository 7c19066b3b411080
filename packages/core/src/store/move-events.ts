/** What a move has come to. */
export interface MoveReport {
  readonly id: string;
  /** Entries that are in the new store, each of them compared byte for byte with the old one while nothing was written. */
  readonly entries: number;
  /** SHA-256 over all keys and values, in hexadecimal; worked out on both sides. */
  readonly digest: string;
  /** How often both stores were read through, the last time while nothing was written. */
  readonly passes: number;
  /** For how long commits waited, in milliseconds. */
  readonly frozenMs: number;
  /** How long all of it took, in milliseconds. */
  readonly tookMs: number;
}

/** What happens to a move, for operators and dashboards; nothing is replayed. Times are milliseconds since the epoch. */
export type MoveEvent = { readonly at: number; readonly id: string } & (
  | { readonly type: 'copying' }
  /** Both stores were read through once more; `changed` entries differed and were copied. */
  | { readonly type: 'copied'; readonly pass: number; readonly entries: number; readonly changed: number }
  | { readonly type: 'frozen' }
  /** Commits go on in the old store: the move is tried again, or came to no end. */
  | { readonly type: 'thawed' }
  /** The new store is the truth; told by the process that moved it. */
  | ({ readonly type: 'moved' } & MoveReport)
  /** This process works on the new store from now on. */
  | { readonly type: 'switched' }
  | { readonly type: 'given-up' }
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
);
