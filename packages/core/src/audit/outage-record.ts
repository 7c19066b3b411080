const MOST_IDS = 100;

/** What the log has to say of a time in which it told callers that it could not record. */
export interface Outage {
  readonly from: string;
  readonly until: string;
  /** Events that are in the log though their callers were told otherwise: these operations did not happen. */
  readonly refusedEventIds: readonly string[];
  /** Operations refused of which nothing is in the log. */
  readonly refusedUnrecorded: number;
}

/** Keeps account of the callers that were turned away, until the log can say so. */
export class OutageRecord {
  #since: number | undefined;
  #sealed: string[] = [];
  #unsealed = 0;

  refuseSealed(eventId: string, now: number): void {
    this.#since ??= now;
    this.#sealed.push(eventId);
  }

  refuseUnsealed(now: number): void {
    this.#since ??= now;
    this.#unsealed += 1;
  }

  /** What there is to say, in portions that fit into an event; nothing when nobody was turned away. Begins anew. */
  take(now: number): Outage[] {
    if (this.#since === undefined) return [];
    const [from, until] = [new Date(this.#since).toISOString(), new Date(now).toISOString()];
    const outages: Outage[] = [];
    do {
      const refusedEventIds = this.#sealed.splice(0, MOST_IDS);
      outages.push({ from, until, refusedEventIds, refusedUnrecorded: outages.length === 0 ? this.#unsealed : 0 });
    } while (this.#sealed.length > 0);
    this.#since = undefined;
    this.#unsealed = 0;
    return outages;
  }
}
