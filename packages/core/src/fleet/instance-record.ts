import { INSTANCE_PREFIX } from '../store/move-records.js';
import type { ProcessIdentity } from './process-identity.js';

/** The entry by which an instance says that it lives: rewritten at every heartbeat, removed when it leaves or is declared dead. */
export interface InstanceRecord {
  readonly format: 1;
  readonly id: string;
  /** Counts the heartbeats. */
  readonly beat: number;
  readonly leaseMs: number;
  readonly startedAt: number;
  readonly process?: ProcessIdentity;
}

export { INSTANCE_PREFIX };

/** Undefined for an entry that cannot be read: whoever wrote it is then judged by its revision alone. */
export function parseInstanceRecord(bytes: Uint8Array): InstanceRecord | undefined {
  try {
    const record: InstanceRecord = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return record.format === 1 && typeof record.id === 'string' && record.leaseMs > 0 ? record : undefined;
  } catch {
    return undefined;
  }
}
