import {
  StoreOptionsError,
  type BareError,
  type HintListeners,
  type KeyRange,
  type Lookout,
  type StoreChanges,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import type { Gather } from './event-loop-turns.js';

/** The options of a SQL store, checked and complete. */
export interface SqlLimits {
  readonly pollIntervalMs: number;
  readonly answerWithinMs: number;
  readonly connections: number;
}

/**
 * What differs between databases. The store above checks requests, orders commits and keeps watch; a backend may throw whatever its
 * database throws, within the time that `answerWithinMs` gives it, and says in `explain` what that means.
 */
export interface SqlBackend {
  readonly name: string;
  /** Connects and creates the table. May be called again when it failed. */
  open(): Promise<void>;
  close(): Promise<void>;
  /** Those of these keys that are there, in any order. */
  read(keys: readonly string[]): Promise<StoreEntry[]>;
  list(range: KeyRange): Promise<StoreEntry[]>;
  revision(): Promise<number>;
  changesSince(revision: number): Promise<StoreChanges>;
  /** Judges and carries out these commits in one durable transaction, all of it or nothing. Never called twice at a time. */
  transact(commits: readonly StoreCommit[]): Promise<readonly (number | undefined)[]>;
  /** For a database that calls of itself; all others are asked. `poll` asks, for the time in which this one does not call. */
  lookout?(listeners: HintListeners, toldRevision: number, poll: () => Lookout): Lookout;
  /** When a batch of reads or commits may begin; by default each waits for the next turn of the event loop, for company. */
  readonly gather?: Gather;
  /** The second half of a sentence that begins with "The store sql (…)". */
  explain(error: BareError): string;
}

/** The key of the row whose revision is that of the whole store. No entry can have it, since keys are never empty. */
export const STORE_ROW = '';

/** The default table. */
export const DEFAULT_TABLE = 'nestjs_secrets';

/**
 * The parts of a table's name: a schema, if there is one, and the table.
 * @throws StoreOptionsError
 */
export function tableParts(table: string, schema?: string): string[] {
  const parts = [...(schema === undefined || table.includes('.') ? [] : [schema]), ...table.split('.')];
  if (parts.length <= 2 && parts.every((part) => /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/.test(part))) return parts;
  throw new StoreOptionsError(
    `${JSON.stringify(parts.join('.'))} is not a table name: use letters, digits and _, with a schema and a dot before it if need be.`,
  );
}

/**
 * The table's name, quoted.
 * @throws StoreOptionsError
 */
export function quotedTable(table: string, schema?: string): string {
  return tableParts(table, schema)
    .map((part) => `"${part}"`)
    .join('.');
}
