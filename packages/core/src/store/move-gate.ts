import { type Clock, hold, pause } from '../foundation/clock.js';
import { StoreUnavailableError } from '../foundation/errors.js';
import {
  type KnownPhase,
  movedPhase,
  NO_MOVE,
  PHASE_KEY,
  type PhaseRecord,
  readArrival,
  readPhase,
  recordWrite,
} from './move-records.js';
import type { StoreDriver } from './store-driver.js';

/**
 * For how long a process may read from the old store without asking again whether it is still the one to read from, in milliseconds, counted from when it asked.
 * Whoever moves the store waits `CUT_OVER_AFTER_MS` between the freeze and the cut-over, so nobody reads from the old store after it.
 */
const READ_LEASE_MS = 250;
/** Twice the lease: a monotonic clock may run half as fast as another. */
export const CUT_OVER_AFTER_MS = 2 * READ_LEASE_MS;

const THAW_LOOK_MS = 20;

export interface GateParts {
  readonly from: StoreDriver;
  readonly to: StoreDriver;
  /** What is added to the revisions of the old store, as one that was itself moved to. */
  readonly base: () => number;
  readonly clock: Clock;
  /** Aborted when the store is closed. */
  readonly signal: AbortSignal;
  /** Told of each phase that is new to this process. */
  readonly onChange: (phase: KnownPhase) => void;
}

/** What one process knows of the phase that a move is in, and since when. */
export class MoveGate {
  #known: KnownPhase = NO_MOVE;
  /** When the latest answer was asked for. */
  #confirmedAt = Number.NEGATIVE_INFINITY;
  /** When this process first saw this phase. */
  #seenAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<KnownPhase> | undefined;
  #nextAsking: Promise<KnownPhase> | undefined;

  constructor(private readonly parts: GateParts) {}

  get known(): KnownPhase {
    return this.#known;
  }

  /** Whether what was just read from the old store was the truth when it was read, given the phase that was known before. */
  isSure(before: KnownPhase): boolean {
    const { phase } = this.#known.record;
    if (this.#known !== before || (phase !== 'none' && phase !== 'copying')) return false;
    return this.parts.clock.monotonic() - this.#confirmedAt <= READ_LEASE_MS;
  }

  /** The phase was this one at some moment after `askedAt`. */
  confirmed(phase: KnownPhase, askedAt: number): void {
    if (phase.revision < this.#known.revision) return;
    this.#confirmedAt = Math.max(this.#confirmedAt, askedAt);
    if (phase.revision === this.#known.revision) return;
    this.#known = phase;
    this.#seenAt = this.parts.clock.monotonic();
    this.parts.onChange(phase);
  }

  /** Asks for the phase. The answer is of a moment after this call; those who call while a question is on its way share the next one. */
  confirm(): Promise<KnownPhase> {
    if (this.#asking === undefined) return this.#ask();
    this.#nextAsking ??= this.#asking
      .catch(() => undefined)
      .then(() => {
        this.#nextAsking = undefined;
        return this.#ask();
      });
    return this.#nextAsking;
  }

  /**
   * Waits until the store takes commits again, and ends a freeze that has lasted too long: its mover is dead, or too slow.
   * @throws StoreUnavailableError when that takes more than two such times
   */
  async thawed(): Promise<void> {
    const { clock, signal, from } = this.parts;
    const began = clock.monotonic();
    while (this.#known.record.phase === 'frozen' && !signal.aborted) {
      const { record, revision } = this.#known;
      const waited = clock.monotonic() - began;
      if (waited > 2 * record.freezeMs)
        throw new StoreUnavailableError(
          from.name,
          `is frozen, since it is being moved to ${record.to}, and took no commit for ${Math.round(waited)} ms; nothing was written. Try again.`,
        );
      if (clock.monotonic() - this.#seenAt > record.freezeMs) await this.#thaw(record, revision);
      else await hold(clock, pause(clock, THAW_LOOK_MS, signal));
      await this.confirm();
    }
  }

  /** Of a mover that has ended the freeze meanwhile, or has moved the store, nothing is taken back. */
  async #thaw(record: PhaseRecord, revision: number): Promise<void> {
    await this.parts.from.commit({
      conditions: [{ key: PHASE_KEY, revision }],
      writes: [recordWrite(PHASE_KEY, { ...record, phase: 'copying' })],
    });
  }

  #ask(): Promise<KnownPhase> {
    const asking = this.#askOnce().finally(() => {
      if (this.#asking === asking) this.#asking = undefined;
    });
    this.#asking = asking;
    return asking;
  }

  async #askOnce(): Promise<KnownPhase> {
    const { clock } = this.parts;
    if (this.#known.record.phase === 'moved') return this.#known;
    const askedAt = clock.monotonic();
    this.confirmed(await this.#read(), askedAt);
    return this.#known;
  }

  async #read(): Promise<KnownPhase> {
    const { from, to } = this.parts;
    try {
      return await readPhase(from);
    } catch (error) {
      // Once it has been moved the old store may be switched off, also before everyone has heard of it. Then the new one knows.
      const arrival = await readArrival(to).catch(() => undefined);
      if (arrival?.record.state !== 'arrived') throw error;
      return movedPhase(arrival.record, to.name, this.parts.base());
    }
  }
}
