import type { Cancel, Clock } from '../foundation/clock.js';
import type { AuditEvent } from './audit-event.js';

/** An event on its way into the log, and whoever waits for it. */
export interface PendingEvent {
  readonly event: AuditEvent;
  readonly json: string;
  readonly deadline: number;
  /** Undefined once its caller was told, and for events of the log itself. */
  caller: { resolve(): void; reject(error: Error): void } | undefined;
}

const MOST_EVENTS = 1024;
const MOST_CHARACTERS = 1_048_576;

/** The events that wait to be sealed, and those sealed that wait for the sinks; with one timer for all their deadlines. */
export class PendingEvents {
  #waiting: PendingEvent[] = [];
  #sealed: readonly PendingEvent[] = [];
  #timer: Cancel | undefined;

  constructor(
    private readonly clock: Clock,
    /** Called when a caller's time is up; must tell the caller. */
    private readonly onExpired: (pending: PendingEvent, isSealed: boolean) => void,
  ) {}

  get isIdle(): boolean {
    return this.#waiting.length === 0 && this.#sealed.length === 0;
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  get isSealed(): boolean {
    return this.#sealed.length > 0;
  }

  add(pending: PendingEvent): void {
    this.#waiting.push(pending);
    this.#watchDeadlines();
  }

  /** In front of all that wait. */
  addFirst(pending: readonly PendingEvent[]): void {
    this.#waiting.unshift(...pending);
  }

  /** The next group: as many as are waiting, within bounds. */
  takeGroup(): readonly PendingEvent[] {
    let characters = 0;
    let count = 0;
    for (const { json } of this.#waiting) {
      if (count === MOST_EVENTS || (count > 0 && characters + json.length > MOST_CHARACTERS)) break;
      characters += json.length;
      count += 1;
    }
    if (count === this.#waiting.length) {
      this.#sealed = this.#waiting;
      this.#waiting = [];
    } else {
      this.#sealed = this.#waiting.slice(0, count);
      this.#waiting = this.#waiting.slice(count);
    }
    return this.#sealed;
  }

  /** The group is with every sink that matters. */
  groupDone(): readonly PendingEvent[] {
    const done = this.#sealed;
    this.#sealed = [];
    return done;
  }

  /** Nobody waits any longer, whatever their deadlines. */
  expireAll(): void {
    this.#expire(Number.POSITIVE_INFINITY);
    this.#timer?.();
    this.#timer = undefined;
  }

  #watchDeadlines(): void {
    if (this.#timer !== undefined) return;
    // Deadlines come in the order of the events, since all have the same limit.
    const isAwaited = ({ caller }: PendingEvent): boolean => caller !== undefined;
    const next = this.#sealed.find(isAwaited) ?? this.#waiting.find(isAwaited);
    if (next === undefined) return;
    this.#timer = this.clock.after(next.deadline - this.clock.now(), () => {
      this.#timer = undefined;
      this.#expire(this.clock.now());
      this.#watchDeadlines();
    });
  }

  #expire(now: number): void {
    for (const pending of this.#sealed) if (pending.deadline <= now && pending.caller) this.onExpired(pending, true);
    const isLate = (pending: PendingEvent): boolean => pending.deadline <= now && pending.caller !== undefined;
    const late = this.#waiting.filter(isLate);
    if (late.length === 0) return;
    // Never sealed, so they leave no gap.
    this.#waiting = this.#waiting.filter((pending) => !isLate(pending));
    for (const pending of late) this.onExpired(pending, false);
  }
}
