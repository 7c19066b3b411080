import { pause } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import type { ChainHead, SealedRecord } from './audit-chain.js';
import { AuditLogDamagedError, AuditUnavailableError, reasonOf } from './audit-errors.js';
import type { AuditSink, AuditSinkContext, AuditSinkState } from './audit-sink.js';

/** What a lane asks of the log. */
export interface LaneParts {
  readonly sink: AuditSink;
  readonly isRequired: boolean;
  readonly context: AuditSinkContext;
  /** How long one call of the sink may take, in milliseconds. */
  readonly limitMs: number;
  /** The sequence number of the last record there is. */
  newest(): number;
  /** The records behind a head: not necessarily all, at least one. */
  supply(lane: SinkLane, head: ChainHead): Promise<readonly SealedRecord[]> | readonly SealedRecord[];
  /** The sink has more than it had. */
  onProgress(): void;
}

/** Since when a sink does not take records, and why. */
export interface LaneFailure {
  readonly since: number;
  readonly why: string;
  readonly cause: unknown;
}

/** How one sink is doing. */
export interface AuditSinkHealth {
  readonly name: string;
  readonly mode: 'required' | 'best-effort';
  readonly status: 'up' | 'failing';
  /** Why it fails, and since when (milliseconds since the Unix epoch). */
  readonly why?: string;
  readonly since?: number;
  /** Records it does not have yet. */
  readonly behind: number;
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;
const NO_ANSWER = 'does not answer';

/** Keeps one sink supplied, at its own pace: a failing one is tried again until it takes what it lacks, and no other sink notices. */
export class SinkLane {
  readonly name: string;
  readonly isRequired: boolean;
  failure: LaneFailure | undefined;
  /** False for a sink that only passes on. */
  keepsRecords = true;
  #head: ChainHead | undefined;
  #start: ChainHead | undefined;
  #isRunning = false;
  #isOpen = false;
  #pauseMs = FIRST_PAUSE_MS;
  readonly #closing = new AbortController();

  constructor(private readonly parts: LaneParts) {
    this.name = parts.sink.name;
    this.isRequired = parts.isRequired;
  }

  get sink(): AuditSink {
    return this.parts.sink;
  }

  /** The last record the sink has; -1 while that is not known. */
  get position(): number {
    return this.#head?.sequence ?? -1;
  }

  get head(): ChainHead | undefined {
    return this.#head;
  }

  /** A required sink that has not taken anything for as long as callers wait: whoever comes now need not wait as well. */
  isDown(now: number): boolean {
    return this.failure !== undefined && now - this.failure.since >= this.parts.limitMs;
  }

  /** @throws what the sink threw, or `AuditUnavailableError` when it did not answer */
  async open(): Promise<AuditSinkState | undefined> {
    const state = await this.#within(this.sink.open(this.parts.context));
    this.#isOpen = true;
    this.keepsRecords = state !== undefined;
    this.#head = state?.head ?? this.#start;
    return state;
  }

  health(): AuditSinkHealth {
    return {
      name: this.name,
      mode: this.isRequired ? 'required' : 'best-effort',
      status: this.failure === undefined ? 'up' : 'failing',
      ...(this.failure && { why: this.failure.why, since: this.failure.since }),
      behind: this.parts.newest() - Math.max(0, this.position),
    };
  }

  /** Where a sink begins that keeps nothing; one that does knows itself. */
  startAt(head: ChainHead): void {
    this.#start = head;
    if (this.#isOpen) this.#head ??= head;
  }

  /** Sees to it that the sink gets what it lacks. */
  kick(): void {
    if (this.#isRunning || this.#closing.signal.aborted || this.position >= this.parts.newest()) return;
    this.#isRunning = true;
    void this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#isOpen) await this.#within(this.sink.close());
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted && this.position < this.parts.newest()) {
      const since = this.parts.context.clock.now();
      try {
        await this.#advance();
      } catch (error) {
        this.#fail(error, since);
        await pause(this.parts.context.clock, this.#pauseMs, this.#closing.signal);
        this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
      }
    }
    this.#isRunning = false;
  }

  async #advance(): Promise<void> {
    if (!this.#isOpen) await this.open();
    const head = this.#head;
    if (head === undefined || head.sequence > this.parts.newest()) {
      throw new AuditLogDamagedError(this.name, 'holds records that this log does not know');
    }
    if (head.sequence === this.parts.newest()) return;
    const supplied = this.parts.supply(this, head);
    const records = supplied instanceof Promise ? await supplied : supplied;
    const [first, last] = [records[0], records.at(-1)];
    if (first === undefined || last === undefined) return;
    if (this.keepsRecords && first.previous !== head.mac) {
      throw new AuditLogDamagedError(this.name, `holds another record ${head.sequence} than this log`);
    }
    const appended = this.sink.append(records).then(() => this.#reach(last));
    await this.#within(appended);
  }

  /** Also for an answer that comes after its time: what the sink has, it has. */
  #reach({ sequence, mac, tree }: SealedRecord): void {
    if (sequence <= this.position) return;
    this.#head = { sequence, mac, tree };
    if (this.failure !== undefined) this.parts.context.warn(`${this.name} takes audit events again.`);
    this.failure = undefined;
    this.#pauseMs = FIRST_PAUSE_MS;
    this.parts.onProgress();
  }

  #fail(cause: unknown, since: number): void {
    if (this.#closing.signal.aborted) return;
    const isNew = this.failure === undefined;
    const why = isSecretsError(cause, 'AUDIT_UNAVAILABLE') ? NO_ANSWER : `failed: ${reasonOf(cause)}`;
    this.failure = { since: this.failure?.since ?? since, why, cause };
    if (isNew) this.parts.context.warn(`${this.name} does not take audit events: it ${why}`);
  }

  #within<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancel = this.parts.context.clock.after(this.parts.limitMs, () =>
        reject(new AuditUnavailableError(this.name, NO_ANSWER)),
      );
      work.then(resolve, reject).finally(cancel);
    });
  }
}
