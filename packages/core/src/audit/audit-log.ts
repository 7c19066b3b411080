import { type Observable, Subject } from 'rxjs';
import { type Clock, systemClock } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import { type Ids, randomIds } from '../foundation/ids.js';
import { cryptoRandomness } from '../foundation/randomness.js';
import { type ChainHead, ChainKey, emptyChain, sealRecord, type SealedRecord } from './audit-chain.js';
import { AuditLogDamagedError, AuditUnavailableError, reasonOf } from './audit-errors.js';
import type { AuditData, AuditEvent, AuditEventInput, AuditIdentity } from './audit-event.js';
import { type AuditLogOptions, checkAuditLogOptions } from './audit-log-options.js';
import type { AuditReader } from './audit-reader.js';
import type { AuditSink, AuditSinkState } from './audit-sink.js';
import { encodeAuditEvent } from './canonical-event.js';
import { Checkpointer } from './checkpointer.js';
import { OutageRecord } from './outage-record.js';
import { type PendingEvent, PendingEvents } from './pending-events.js';
import { RecordBuffer } from './record-buffer.js';
import { historyFor } from './sink-history.js';
import { type AuditSinkHealth, SinkLane } from './sink-lane.js';

/** An event with its place in the log. */
export interface RecordedEvent {
  readonly sequence: number;
  readonly event: AuditEvent;
}

const BUFFER_BYTES = 8 * 1_048_576;
const MOST_RECORDS_AT_ONCE = 1024;
/** With sinks that answer at once, somebody who records without a pause would otherwise keep everything else in the process from its turn. */
const MOST_SPARED = 16;
const LOG_IDENTITY: AuditIdentity = { type: 'system', principalId: 'nestjs-secrets' };

/**
 * The tamper-evident log: seals events into a keyed hash chain, many callers' events in one durable write, and takes them to its sinks.
 * `record` resolves once every required sink has the event; until then the operation must not happen, or its result must not be handed out (I8).
 */
export class AuditLog {
  readonly #clock: Clock;
  readonly #ids: Ids;
  readonly #keys: readonly [ChainKey, ...ChainKey[]];
  readonly #limitMs: number;
  readonly #eventLimit: number;
  readonly #lanes: readonly SinkLane[];
  readonly #required: readonly SinkLane[];
  readonly #pending: PendingEvents;
  readonly #buffer = new RecordBuffer(BUFFER_BYTES);
  readonly #outage = new OutageRecord();
  readonly #checkpointer: Checkpointer | undefined;
  readonly #events = new Subject<RecordedEvent>();
  #head: ChainHead;
  #group: readonly SealedRecord[] = [];
  #isOpen = false;
  #isEnding = false;
  #isScheduled = false;
  /** Whether the last group had more than one event. */
  #hadCompany = false;
  /** Groups that were sealed without a turn, in a row. */
  #spared = 0;
  #whenIdle: (() => void) | undefined;
  #second = { ms: Number.NaN, iso: '' };

  /** @throws AuditOptionsError */
  constructor(private readonly options: AuditLogOptions) {
    checkAuditLogOptions(options);
    const { origin, checkpoints, previousKeys = [] } = options;
    this.#clock = options.clock ?? systemClock;
    this.#ids = options.ids ?? randomIds;
    this.#limitMs = options.timeLimitMs ?? 5000;
    this.#eventLimit = options.eventLimitBytes ?? 65_536;
    this.#keys = [new ChainKey(options.key, origin), ...previousKeys.map((key) => new ChainKey(key, origin))];
    this.#head = emptyChain(this.#keys[0]);
    this.#pending = new PendingEvents(this.#clock, (pending, isSealed) => this.#refuse(pending, isSealed));
    this.#lanes = options.sinks.map(({ sink, mode }) => this.#laneFor(sink, mode === 'required'));
    this.#required = this.#lanes.filter(({ isRequired }) => isRequired);
    const warn = (message: string): void => this.#warn(message);
    this.#checkpointer = checkpoints && new Checkpointer({ options: checkpoints, origin, clock: this.#clock, warn });
  }

  /** Events as they are recorded; nothing is replayed. Completes when the log closes. */
  get events$(): Observable<RecordedEvent> {
    return this.#events.asObservable();
  }

  /** The sequence number of the last record. */
  get sequence(): number {
    return this.#head.sequence;
  }

  /** Where queries read: the first sink that can be read. */
  get reader(): AuditReader | undefined {
    return this.#lanes.find(({ sink }) => sink.reader !== undefined)?.sink.reader;
  }

  /**
   * Opens the sinks and goes on where the log ended; repairs what a death in mid-write left, and records that it did.
   * @throws what a required sink throws; AuditLogDamagedError when sinks or checkpoints contradict each other
   */
  async open(): Promise<void> {
    let repairedBytes = 0;
    try {
      for (const lane of this.#lanes) {
        const state = await this.#openLane(lane);
        repairedBytes += state?.repairedBytes ?? 0;
        if (state !== undefined && state.head.sequence > this.#head.sequence) this.#head = state.head;
      }
      for (const lane of this.#lanes) lane.startAt(this.#head);
      await this.#checkpointer?.open(this.#head);
    } catch (error) {
      await this.#closeAll();
      throw error;
    }
    this.#isOpen = true;
    for (const lane of this.#lanes) lane.kick();
    if (repairedBytes > 0) await this.record(ownEvent('RepairAuditLog', { bytes: repairedBytes }));
  }

  /**
   * Resolves once every required sink has the event, durably.
   * @throws AuditUnavailableError when that did not come about within the limit; AuditEventError
   */
  record(input: AuditEventInput): Promise<void> {
    // One promise an event, of which there are many; what is thrown in here rejects it.
    return new Promise((resolve, reject) => {
      const now = this.#clock.now();
      const event = this.#complete(input, now);
      const json = encodeAuditEvent(event, this.#eventLimit);
      if (!this.#isOpen) throw new AuditUnavailableError('the audit log', 'is not open');
      for (const lane of this.#required) {
        if (!lane.isDown(now)) continue;
        this.#outage.refuseUnsealed(now);
        throw this.#unavailable(lane);
      }
      this.#pending.add({ event, json, deadline: now + this.#limitMs, caller: { resolve, reject } });
      this.#schedule();
    });
  }

  /** A new id for an event, for whoever must know it beforehand. */
  nextEventId(): string {
    return this.#ids.next();
  }

  /** Makes a checkpoint of what is durable, unless there is one already, and resolves when every place has it. */
  async checkpoint(): Promise<void> {
    this.#checkpointer?.make();
    await this.#checkpointer?.settled();
  }

  health(): AuditSinkHealth[] {
    return this.#lanes.map((lane) => lane.health());
  }

  /** Waits, within the limit, for events under way and sinks that are behind; makes a last checkpoint; lets go of everything. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#withinLimit(
      new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
        this.#checkIdle();
      }),
    );
    this.#pending.expireAll();
    await this.#withinLimit(this.checkpoint());
    // A sink that answers only now makes way for what the log itself had to say, and there is nobody left to take it.
    this.#isEnding = true;
    await this.#closeAll();
    for (const key of this.#keys) key.end();
    this.#events.complete();
  }

  #laneFor(sink: AuditSink, isRequired: boolean): SinkLane {
    return new SinkLane({
      sink,
      isRequired,
      context: {
        keys: this.#keys,
        clock: this.#clock,
        randomness: this.options.randomness ?? cryptoRandomness,
        ids: this.#ids,
        warn: (message) => this.#warn(message),
      },
      limitMs: this.#limitMs,
      newest: () => this.#head.sequence,
      supply: (lane, head) => this.#supply(lane, head),
      onProgress: () => this.#progress(),
    });
  }

  async #openLane(lane: SinkLane): Promise<AuditSinkState | undefined> {
    try {
      return await lane.open();
    } catch (error) {
      if (lane.isRequired || isSecretsError(error, 'AUDIT_LOG_DAMAGED')) throw error;
      this.#warn(`${lane.name} cannot be opened and is tried again: ${reasonOf(error)}`);
      return undefined;
    }
  }

  #supply(lane: SinkLane, head: ChainHead): Promise<readonly SealedRecord[]> | readonly SealedRecord[] {
    const buffered = this.#buffer.after(head.sequence, MOST_RECORDS_AT_ONCE);
    if (buffered !== undefined) return buffered;
    const history = historyFor(lane, this.#lanes, this.#keys);
    if (history !== undefined) return history(head);
    if (lane.keepsRecords) {
      throw new AuditLogDamagedError(lane.name, `lacks the records behind ${head.sequence}, which no other sink has`);
    }
    const oldest = this.#buffer.oldest(MOST_RECORDS_AT_ONCE);
    this.#warn(`${lane.name} missed ${(oldest[0]?.sequence ?? head.sequence) - head.sequence - 1} events.`);
    return oldest;
  }

  #complete(input: AuditEventInput, now: number): AuditEvent {
    // Each field by its name: spreading the input costs more than everything else about an event.
    return {
      eventId: input.eventId ?? this.#ids.next(),
      eventTime: input.eventTime ?? this.#iso(now),
      eventName: input.eventName,
      eventRW: input.eventRW,
      eventSource: input.eventSource ?? this.options.eventSource ?? 'nestjs-secrets',
      eventType: input.eventType ?? 'ApiCall',
      eventVersion: input.eventVersion,
      serviceName: input.serviceName,
      userIdentity: input.userIdentity ?? this.options.identity ?? LOG_IDENTITY,
      sourceIpAddress: input.sourceIpAddress,
      userAgent: input.userAgent,
      requestId: input.requestId,
      resourceName: input.resourceName,
      resourceType: input.resourceType,
      errorCode: input.errorCode,
      errorMessage: input.errorMessage,
      requestParameters: input.requestParameters,
      additionalEventData: input.additionalEventData,
    };
  }

  #schedule(): void {
    if (this.#isScheduled || this.#pending.isSealed) return;
    this.#isScheduled = true;
    const seal = (): void => {
      this.#isScheduled = false;
      this.#seal();
    };
    // Everybody who asks in this turn of the event loop shares the group. Where there was nobody else last time, a turn is not worth waiting for: under load it takes as long as the write.
    this.#spared = this.#hadCompany ? 0 : (this.#spared + 1) % MOST_SPARED;
    if (this.#spared === 0) setImmediate(seal);
    else queueMicrotask(seal);
  }

  #seal(): void {
    if (this.#isEnding || this.#pending.isSealed || !this.#pending.isWaiting) return;
    const now = this.#clock.now();
    const iso = this.#iso(now);
    const records: SealedRecord[] = [];
    for (const { json } of this.#pending.takeGroup()) {
      const record = sealRecord(this.#keys[0], this.#head, json, now, iso);
      records.push(record);
      this.#head = record;
    }
    this.#group = records;
    this.#hadCompany = records.length > 1;
    this.#buffer.push(records);
    for (const lane of this.#lanes) lane.kick();
    // The tree is made while the sinks write.
    setImmediate(() => records.at(-1)?.tree);
  }

  #progress(): void {
    const durable = Math.min(...this.#required.map(({ position }) => position));
    if (this.#pending.isSealed && durable >= this.#head.sequence) this.#groupDone();
    this.#buffer.trim(Math.min(...this.#lanes.map(({ position }) => position)), durable);
    this.#checkIdle();
  }

  #groupDone(): void {
    const records = this.#group;
    this.#group = [];
    const done = this.#pending.groupDone();
    for (const { caller } of done) caller?.resolve();
    if (this.#events.observed) {
      for (const [index, { event }] of done.entries()) {
        this.#events.next({ sequence: records[index]?.sequence ?? 0, event });
      }
    }
    this.#checkpointer?.reached(this.#head);
    this.#tellOutage();
    if (this.#pending.isWaiting) this.#schedule();
  }

  #tellOutage(): void {
    const now = this.#clock.now();
    const outages = this.#outage.take(now).map((outage) => {
      const event = this.#complete(ownEvent('AuditOutage', { ...outage }), now);
      return {
        event,
        json: encodeAuditEvent(event, this.#eventLimit),
        deadline: Number.POSITIVE_INFINITY,
        caller: undefined,
      };
    });
    this.#pending.addFirst(outages);
  }

  #refuse(pending: PendingEvent, isSealed: boolean): void {
    const now = this.#clock.now();
    if (isSealed) this.#outage.refuseSealed(pending.event.eventId, now);
    else this.#outage.refuseUnsealed(now);
    const slowest = this.#required.reduce((one, other) => (other.position < one.position ? other : one));
    pending.caller?.reject(this.#unavailable(slowest));
    pending.caller = undefined;
  }

  #unavailable({ name, failure }: SinkLane): AuditUnavailableError {
    const why = failure?.why ?? `did not take it within ${this.#limitMs} ms`;
    return new AuditUnavailableError(name, why, failure?.cause);
  }

  #iso(ms: number): string {
    if (this.#second.ms !== ms) this.#second = { ms, iso: new Date(ms).toISOString() };
    return this.#second.iso;
  }

  #checkIdle(): void {
    // A best-effort sink that fails is not waited for.
    const owing = this.#lanes.filter(({ isRequired, failure }) => isRequired || failure === undefined);
    if (this.#pending.isIdle && owing.every(({ position }) => position >= this.#head.sequence)) this.#whenIdle?.();
  }

  #withinLimit(work: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#limitMs, resolve);
      void work
        .then(
          () => resolve(),
          () => resolve(),
        )
        .then(cancel);
    });
  }

  async #closeAll(): Promise<void> {
    const closings = [...this.#lanes.map((lane) => lane.close()), this.#checkpointer?.close() ?? Promise.resolve()];
    for (const result of await Promise.allSettled(closings)) {
      if (result.status === 'rejected')
        this.#warn(`Something of the audit log did not close: ${reasonOf(result.reason)}`);
    }
  }

  #warn(message: string): void {
    this.options.onWarning?.(message);
  }
}

function ownEvent(eventName: string, additionalEventData: Readonly<Record<string, AuditData>>): AuditEventInput {
  return { eventName, eventRW: 'Write', eventType: 'ServiceEvent', userIdentity: LOG_IDENTITY, additionalEventData };
}
