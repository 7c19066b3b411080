import { type Observable, ReplaySubject } from 'rxjs';
import type { Clock } from '../foundation/clock.js';
import type { IntegrityEvent, IntegrityFinding } from './integrity-findings.js';

/** So many findings are remembered, to tell each only once. */
const REMEMBERED = 10_000;
/** What is found while a store is opened has nobody to listen yet. */
const REPLAYED = 100;

/** Tells of what is found, once each. */
export class IntegrityReports {
  readonly #events = new ReplaySubject<IntegrityEvent>(REPLAYED);
  /** By key and kind, with the revision of what was found. */
  readonly #told = new Map<string, number>();
  #damage: IntegrityFinding | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly onEvent?: (event: IntegrityEvent) => void,
  ) {}

  get events$(): Observable<IntegrityEvent> {
    return this.#events;
  }

  /** The latest thing found, for health; undefined while nothing was. */
  get latest(): IntegrityFinding | undefined {
    return this.#damage;
  }

  /** `revision` is that of the entry at fault, 0 where there is none: one that was changed again is told again. Without it, only what was not told before is. */
  found(finding: IntegrityFinding, revision?: number): void {
    this.#damage = finding;
    const about = `${finding.kind} ${finding.key}`;
    const told = this.#told.get(about);
    if (told !== undefined && (revision === undefined || told === revision)) return;
    if (this.#told.size >= REMEMBERED) this.#told.clear();
    this.#told.set(about, revision ?? 0);
    this.tell({ type: 'found', at: this.clock.now(), finding });
  }

  repaired(key: string): void {
    this.tell({ type: 'repaired', at: this.clock.now(), key });
  }

  /** What was wrong has been put right: it is told again when it comes back. */
  settled(): void {
    this.#damage = undefined;
    this.#told.clear();
  }

  tell(event: IntegrityEvent): void {
    try {
      this.onEvent?.(event);
    } catch {
      // Whoever listens must not keep a finding from the others, nor the reader from its answer.
    }
    this.#events.next(event);
  }

  close(): void {
    this.#events.complete();
  }
}
