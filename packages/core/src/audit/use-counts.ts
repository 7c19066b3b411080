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
  readonly #counters = new Map<string, Counted>();
  /** Of versions that were replaced, until their last count is recorded. */
  readonly #replaced = new Set<Counted>();
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
    const before = this.#counters.get(secretName);
    if (before?.versionId === versionId) return before;
    if (before !== undefined) this.#replaced.add(before);
    const counter = { secretName, versionId, uses: 0, since: this.options.clock.now() };
    this.#counters.set(secretName, counter);
    this.#arm();
    return counter;
  }

  /** Records the counts of this interval now. */
  async flush(): Promise<void> {
    const all = [...this.#replaced, ...this.#counters.values()];
    await Promise.allSettled(all.map((counter) => this.#record(counter)));
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
    if (uses === 0) {
      this.#replaced.delete(counter);
      return;
    }
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
