import { type Cancel, type Clock, pause } from '../foundation/clock.js';
import type { ChainHead } from './audit-chain.js';
import { AuditLogDamagedError, reasonOf } from './audit-errors.js';
import type { CheckpointOptions } from './audit-log-options.js';
import {
  type Checkpoint,
  type CheckpointVerifier,
  checkpointVerifier,
  openCheckpoint,
  parseCheckpoint,
  signCheckpoint,
} from './checkpoint.js';
import type { CheckpointPlace } from './checkpoint-place.js';
import { merkleRoot } from './merkle-tree.js';

const LONGEST_PAUSE_MS = 30_000;
const MOST_WAITING = 1000;

export interface CheckpointerParts {
  readonly options: CheckpointOptions;
  readonly origin: string;
  readonly clock: Clock;
  warn(message: string): void;
}

/** Makes checkpoints when they are due and brings them to their places; a place that fails is tried again and holds nobody up. */
export class Checkpointer {
  readonly #queues: PlaceQueue[];
  readonly #everyEvents: number;
  readonly #everyMs: number;
  #number = 0;
  #size = 0;
  #head: ChainHead | undefined;
  #timer: Cancel | undefined;

  constructor(private readonly parts: CheckpointerParts) {
    const { options, clock } = parts;
    this.#everyEvents = options.everyEvents ?? 1000;
    this.#everyMs = options.everyMs ?? 60_000;
    this.#queues = options.places.map((place) => new PlaceQueue(place, clock, parts.warn));
  }

  /** The last checkpoint's size: records up to there cannot be taken away unnoticed. */
  get size(): number {
    return this.#size;
  }

  /**
   * Goes on after the last checkpoint of any place, and brings places that lack some up to date.
   * @throws AuditLogDamagedError when a checkpoint of ours speaks of more records than there are
   */
  async open(head: ChainHead): Promise<void> {
    const { options, origin } = this.parts;
    const verifiers = [checkpointVerifier(options.signer.verifierKey)];
    const lasts = new Map<PlaceQueue, number>();
    let fullest: PlaceQueue | undefined;
    for (const queue of this.#queues) {
      const last = await queue.open(this.parts.warn);
      if (last === undefined) continue;
      lasts.set(queue, last.number);
      if (last.origin === origin && last.size > head.sequence && isSigned(last.note, verifiers)) {
        throw new AuditLogDamagedError(
          origin,
          `was cut short: ${queue.place.name} has a checkpoint of ${last.size} records, and only ${head.sequence} are left`,
        );
      }
      if (last.number <= this.#number) continue;
      this.#number = last.number;
      this.#size = Math.min(last.size, head.sequence);
      fullest = queue;
    }
    if (fullest !== undefined) await this.#bringUpToDate(fullest, lasts);
    this.reached(head);
  }

  /** Records up to this head are durable. */
  reached(head: ChainHead): void {
    this.#head = head;
    if (head.sequence - this.#size >= this.#everyEvents) this.make();
    else if (head.sequence > this.#size) this.#timer ??= this.parts.clock.after(this.#everyMs, () => this.make());
  }

  /** Signs the head as it is, unless the last checkpoint did. */
  make(): void {
    this.#timer?.();
    this.#timer = undefined;
    const head = this.#head;
    if (head === undefined || head.sequence <= this.#size) return;
    const { options, origin, clock } = this.parts;
    const checkpoint = signCheckpoint(options.signer, {
      origin,
      size: head.sequence,
      root: merkleRoot(head.tree),
      number: this.#number + 1,
      time: new Date(clock.now()).toISOString(),
      extensions: this.#extensions(),
    });
    this.#number = checkpoint.number;
    this.#size = checkpoint.size;
    for (const queue of this.#queues) queue.put(checkpoint);
  }

  /** Resolves when every place has every checkpoint. */
  async settled(): Promise<void> {
    await Promise.all(this.#queues.map((queue) => queue.settled()));
  }

  async close(): Promise<void> {
    this.#timer?.();
    await Promise.all(this.#queues.map((queue) => queue.close()));
  }

  #extensions(): readonly string[] {
    try {
      return this.parts.options.extensions?.() ?? [];
    } catch (error) {
      // A checkpoint without them is worth more than none.
      this.parts.warn(`A checkpoint lacks its extension lines: ${reasonOf(error)}`);
      return [];
    }
  }

  async #bringUpToDate(fullest: PlaceQueue, lasts: ReadonlyMap<PlaceQueue, number>): Promise<void> {
    const behind = [...lasts].filter(([, number]) => number < this.#number);
    if (behind.length === 0) return;
    for await (const note of fullest.place.notes?.() ?? []) {
      const checkpoint = parseOrSkip(note);
      for (const [queue, number] of behind)
        if (checkpoint !== undefined && checkpoint.number > number) queue.put(checkpoint);
    }
  }
}

/** The checkpoints on their way to one place. */
class PlaceQueue {
  readonly #waiting: Checkpoint[] = [];
  readonly #closing = new AbortController();
  #run: Promise<void> | undefined;
  #isFailing = false;

  constructor(
    readonly place: CheckpointPlace,
    private readonly clock: Clock,
    private readonly warn: (message: string) => void,
  ) {}

  /** The last checkpoint there, when the place can tell; undefined when it cannot. */
  async open(warn: (message: string) => void): Promise<Checkpoint | undefined> {
    try {
      await this.place.open?.();
      if (this.place.notes === undefined) return undefined;
      let last: Checkpoint = {
        origin: '',
        size: 0,
        root: Buffer.alloc(0),
        number: 0,
        time: '',
        extensions: [],
        note: '',
      };
      for await (const note of this.place.notes()) last = parseOrSkip(note) ?? last;
      return last;
    } catch (error) {
      warn(`${this.place.name} cannot be read: ${reasonOf(error)}`);
      return undefined;
    }
  }

  put(checkpoint: Checkpoint): void {
    this.#waiting.push(checkpoint);
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#run ??= this.#deliver();
  }

  async settled(): Promise<void> {
    await this.#run;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.place.close?.();
  }

  async #deliver(): Promise<void> {
    let pauseMs = 100;
    for (let next = this.#waiting[0]; next !== undefined && !this.#closing.signal.aborted; next = this.#waiting[0]) {
      try {
        await this.place.put(next);
        if (this.#waiting[0] === next) this.#waiting.shift();
        if (this.#isFailing) this.warn(`${this.place.name} takes checkpoints again.`);
        this.#isFailing = false;
        pauseMs = 100;
      } catch (error) {
        if (!this.#isFailing) this.warn(`${this.place.name} does not take checkpoints: ${reasonOf(error)}`);
        this.#isFailing = true;
        await pause(this.clock, pauseMs, this.#closing.signal);
        pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
      }
    }
    this.#run = undefined;
  }
}

function parseOrSkip(note: string): Checkpoint | undefined {
  try {
    return parseCheckpoint(note, note);
  } catch {
    // What it is, verifyAudit says; here only those that are checkpoints count.
    return undefined;
  }
}

function isSigned(note: string, verifiers: readonly CheckpointVerifier[]): boolean {
  try {
    openCheckpoint(note, verifiers);
    return true;
  } catch {
    return false;
  }
}
