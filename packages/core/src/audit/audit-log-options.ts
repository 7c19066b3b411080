import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { AuditKey } from './audit-chain.js';
import { AuditOptionsError } from './audit-errors.js';
import type { AuditIdentity } from './audit-event.js';
import type { AuditSink } from './audit-sink.js';
import type { CheckpointSigner } from './checkpoint.js';
import type { CheckpointPlace } from './checkpoint-place.js';

/** A sink and what depends on it. */
export interface AuditSinkUse {
  readonly sink: AuditSink;
  /** `required`: no operation happens that it did not take. `best-effort`: holds nobody up; it is brought up to date when it can be. */
  readonly mode: 'required' | 'best-effort';
}

export interface CheckpointOptions {
  readonly signer: CheckpointSigner;
  /** Each gets every checkpoint. At least one, better two, of which one is out of reach of whoever can rewrite the log. */
  readonly places: readonly CheckpointPlace[];
  /** A checkpoint after this many events; 1000 by default. */
  readonly everyEvents?: number;
  /** A checkpoint this long after an event that none covers yet, in milliseconds; 60,000 by default. */
  readonly everyMs?: number;
  /** Further lines to be signed with each checkpoint, such as the head of the store's manifest. */
  readonly extensions?: () => readonly string[];
}

export interface AuditLogOptions {
  /**
   * What this log is called, for ever: 1–200 of `A-Z a-z 0-9 . _ / : @ -`, by convention a URL without its scheme, such as
   * `orders.example.com/audit/instance-1`. Each instance of an application has a log of its own.
   */
  readonly origin: string;
  /** At least 32 bytes that only the application holds. Whoever has it can write events that pass for genuine. */
  readonly key: AuditKey;
  /** Keys that older records were made with. */
  readonly previousKeys?: readonly AuditKey[];
  /** At least one of them required. */
  readonly sinks: readonly AuditSinkUse[];
  readonly checkpoints?: CheckpointOptions;
  /** How long an operation waits for its event, in milliseconds; 5000 by default. */
  readonly timeLimitMs?: number;
  /** The largest event, in bytes of its JSON, 1024–524,288; 65,536 by default. */
  readonly eventLimitBytes?: number;
  /** What events have as `eventSource` that state none; `nestjs-secrets` by default. */
  readonly eventSource?: string;
  /** Who acts where an event does not say, and when the log itself does. */
  readonly identity?: AuditIdentity;
  readonly clock?: Clock;
  readonly randomness?: Randomness;
  readonly ids?: Ids;
  /** Told when a sink or a checkpoint place fails and when it is well again; nothing by default. Never throws. */
  readonly onWarning?: (message: string) => void;
}

/** @throws AuditOptionsError */
export function checkAuditLogOptions(options: AuditLogOptions): void {
  const { sinks, checkpoints, timeLimitMs = 5000, eventLimitBytes = 65_536 } = options;
  if (!sinks.some(({ mode }) => mode === 'required')) {
    throw new AuditOptionsError(
      'An audit log needs a required sink: with none, operations would happen that nothing records. Make one of them { mode: "required" }.',
    );
  }
  checkRange('timeLimitMs', timeLimitMs, 1, 3_600_000);
  checkRange('eventLimitBytes', eventLimitBytes, 1024, 524_288);
  if (checkpoints === undefined) return;
  if (checkpoints.places.length === 0) throw new AuditOptionsError('Checkpoints need a place to go to.');
  checkRange('everyEvents', checkpoints.everyEvents ?? 1000, 1, 1_000_000_000);
  checkRange('everyMs', checkpoints.everyMs ?? 60_000, 1, 30 * 86_400_000);
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new AuditOptionsError(`${name} of an audit log is a whole number from ${least} to ${most}.`);
}
