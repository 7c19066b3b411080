import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { ChainHead, ChainKey, SealedRecord } from './audit-chain.js';
import type { AuditReader } from './audit-reader.js';

/** What a sink is given when it is opened. */
export interface AuditSinkContext {
  /** The first seals; the others were used before. */
  readonly keys: readonly ChainKey[];
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  /** Tells the operator something that stops nothing. */
  warn(message: string): void;
}

/** Where a sink stands. */
export interface AuditSinkState {
  readonly head: ChainHead;
  /** Bytes of an unfinished record that were removed: the process died while it wrote them, so they were acknowledged to nobody. */
  readonly repairedBytes: number;
}

/**
 * Takes the records of one log, in order. Several can stand beside each other; the log brings one that fell behind up to date from another that
 * has a `reader`.
 */
export interface AuditSink {
  /** For messages, such as `audit files in logs/audit`. */
  readonly name: string;
  /** Where its records end, when it keeps any. Called once, before anything else. */
  open(context: AuditSinkContext): Promise<AuditSinkState | undefined>;
  /**
   * Resolves once all of them are kept (durably, where the sink is durable at all). After a rejection, or when an answer does not come, the same
   * records come again, possibly while the first call still runs: what it has already it passes over.
   */
  append(records: readonly SealedRecord[]): Promise<void>;
  readonly reader?: AuditReader;
  close(): Promise<void>;
}
