import type { Cancel, Clock } from '../foundation/clock.js';
import type { AuditIdentity } from './audit-event.js';
import type { AuditRecorder } from './audited-work.js';

export interface UseCountsOptions {
  readonly log: AuditRecorder;
  readonly clock: Clock;
  /** Whose uses are counted. */
  readonly identity: AuditIdentity;
  /** How often counts are recorded, in milliseconds; 300,000 by default. */
  readonly everyMs?: number;
}

/** Counts the uses of one version; whoever uses it adds to `uses`, which costs no more than that. */
export interface UseCounter {
  uses: number;
}

const KEPT_VERSIONS = 8;

interface Counted extends UseCounter {
  readonly secretName: string;
  readonly versionId: string;
  since: number;
}

/**
 * How live handles are audited: not each property read, but each delivery of a version to this instance (`DeliverSecretVersion`), and at intervals how often
 * it was used (`UseSecretVersion`). Counts that cannot be recorded are kept and recorded later; they hold nobody up.
 */
export class UseCounts {
  /** By secret and version, the latest asked for last. */
  readonly #counters = new Map<string, Map<string, Counted>>();
  readonly #everyMs: number;
  #timer: Cancel | undefined;
  #isClosed = false;

  constructor(private readonly options: UseCountsOptions) {
    this.#everyMs = options.everyMs ?? 300_000;
  }

  /**
   * Records that this instance is about to have a version, and gives the counter of its uses. Hand the value out only once this resolved.
   * @throws AuditUnavailableError
   */
  async deliver(secretName: string, versionId: string, requestId?: string): Promise<UseCounter> {
    await this.options.log.record({
      eventName: 'DeliverSecretVersion',
      eventRW: 'Read',
      eventType: 'ServiceEvent',
      userIdentity: this.options.identity,
      resourceName: secretName,
      resourceType: 'Secret',
      requestId,
      requestParameters: { versionId },
    });
    return this.count(secretName, versionId);
  }

  /** The counter of a version that this instance has, where its delivery was recorded already. */
  count(secretName: string, versionId: string): UseCounter {
    const known = this.#counters.get(secretName) ?? new Map<string, Counted>();
    this.#counters.set(secretName, known);
    const counter = known.get(versionId) ?? { secretName, versionId, uses: 0, since: this.options.clock.now() };
    known.delete(versionId);
    known.set(versionId, counter);
    this.#arm();
    return counter;
  }

  /** Records the counts of this interval now. */
  async flush(): Promise<void> {
    const all = [...this.#counters.values()].flatMap((known) => [...known.values()]);
    await Promise.allSettled(all.map((counter) => this.#record(counter)));
    for (const known of this.#counters.values()) forgetOldest(known);
  }

  /** Records what is left, as far as the log takes it, and stops. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.();
    await this.flush();
  }

  async #record(counter: Counted): Promise<void> {
    const { secretName, versionId, uses, since } = counter;
    const until = this.options.clock.now();
    if (uses === 0) return;
    await this.options.log.record({
      eventName: 'UseSecretVersion',
      eventRW: 'Read',
      eventType: 'ServiceEvent',
      userIdentity: this.options.identity,
      resourceName: secretName,
      resourceType: 'Secret',
      requestParameters: { versionId },
      additionalEventData: { uses, since: new Date(since).toISOString(), until: new Date(until).toISOString() },
    });
    // Only what was recorded: others may have been counted while it was.
    counter.uses -= uses;
    counter.since = until;
  }

  #arm(): void {
    if (this.#isClosed || this.#timer !== undefined) return;
    this.#timer = this.options.clock.after(this.#everyMs, () => {
      void this.flush().then(() => {
        this.#timer = undefined;
        this.#arm();
      });
    });
  }
}

/** A version that was replaced is used for a while yet, as by a transaction that began with it. */
function forgetOldest(known: Map<string, Counted>): void {
  for (const [versionId, { uses }] of known) {
    if (known.size <= KEPT_VERSIONS) return;
    if (uses === 0) known.delete(versionId);
  }
}
