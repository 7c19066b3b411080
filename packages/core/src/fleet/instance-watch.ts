import type { Clock } from '../foundation/clock.js';
import type { StoreDriver } from '../store/store-driver.js';
import { INSTANCE_PREFIX, parseInstanceRecord } from './instance-record.js';
import type { ProcessTable } from './process-identity.js';

/** How many leases an instance must be silent before others take it for dead: covers what clocks differ in pace, and a statement on its way to the target. */
const PATIENCE = 2;
/** Looks that lie further apart than so many leases prove nothing: between them the store may have been out of everybody's reach. */
const LONGEST_GAP = 1;

interface Observation {
  readonly revision: number;
  readonly since: number;
  lookedAt: number;
}

/**
 * Tells whether other instances are gone. One that is silent is declared dead by removing its entry, on condition that it is still the one
 * that was watched: so an instance is gone exactly when it has no entry, and one that wakes up too late finds that out at its next heartbeat.
 */
export class InstanceWatch {
  readonly #observed = new Map<string, Observation>();

  constructor(
    private readonly store: StoreDriver,
    private readonly clock: Clock,
    private readonly processes: ProcessTable,
    /** The lease of this instance, which says how often looks are due; those of others stand in their entries. */
    private readonly leaseMs: number,
    /**
     * How long the store keeps this instance's own heartbeats waiting (`Instance.strainMs`). Silence must have lasted so much longer, up to twice as
     * long, since the heartbeats of others may be kept waiting likewise.
     */
    private readonly strainMs: () => number = () => 0,
  ) {}

  /** How often to ask about an instance that somebody waits for, in milliseconds. */
  get lookEveryMs(): number {
    return this.leaseMs / 4;
  }

  /**
   * Whether the instance has left or was declared dead, by this look or earlier. One that fell silent is found to be gone only when it is asked
   * about at least every `lookEveryMs`.
   * @throws StoreUnavailableError
   */
  async isGone(instanceId: string): Promise<boolean> {
    const key = INSTANCE_PREFIX + instanceId;
    const askedAt = this.clock.monotonic();
    const entry = await this.#look(key, instanceId);
    if (entry === undefined) return true;
    const record = parseInstanceRecord(entry.value);
    const now = this.clock.monotonic();
    const leaseMs = record?.leaseMs ?? this.leaseMs;
    const known = this.#observed.get(instanceId);
    const isWatched =
      known !== undefined && known.revision === entry.revision && askedAt - known.lookedAt <= leaseMs * LONGEST_GAP;
    const observation = isWatched ? known : { revision: entry.revision, since: now, lookedAt: now };
    observation.lookedAt = now;
    this.#observed.set(instanceId, observation);
    const silenceMs = leaseMs * PATIENCE;
    const isSilent = now - observation.since >= silenceMs + Math.min(this.strainMs(), silenceMs);
    const hasEnded = record?.process !== undefined && this.processes.hasEnded(record.process);
    if (!isSilent && !hasEnded) return false;
    const removed = await this.store.commit({
      conditions: [{ key, revision: entry.revision }],
      writes: [{ key, value: null }],
    });
    this.#observed.delete(instanceId);
    return removed !== undefined;
  }

  async #look(key: string, instanceId: string) {
    try {
      const entry = await this.store.get(key);
      if (entry === undefined) this.#observed.delete(instanceId);
      return entry;
    } catch (error) {
      this.#observed.delete(instanceId);
      throw error;
    }
  }
}
