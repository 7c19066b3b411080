import { type Clock, pause } from '../foundation/clock.js';
import { StoreMoveError } from './move-errors.js';
import { type KnownPhase, MOVER_KEY, type MoverRecord, PHASE_KEY, readMover, recordWrite } from './move-records.js';
import type { StoreCondition, StoreDriver } from './store-driver.js';

const LOOKS_PER_LEASE = 8;
const BEATS_PER_LEASE = 3;

export interface TenureParts {
  readonly from: StoreDriver;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly leaseMs: number;
  /** Of this attempt alone. */
  readonly holder: string;
}

/** That this process carries the move out, as an entry of the old store that every step of it depends on. */
export class MoverTenure {
  #beatAt: number;
  #beat = 0;

  private constructor(
    private readonly parts: TenureParts,
    private revision: number,
  ) {
    this.#beatAt = parts.clock.monotonic();
  }

  /**
   * Takes the move on, from a mover that has fallen silent too.
   * @throws StoreMoveError `STORE_MOVE_BUSY` while another process carries it out
   */
  static async enter(parts: TenureParts, phase: KnownPhase): Promise<MoverTenure> {
    const { from, leaseMs, holder } = parts;
    const revision = await silentMover(parts);
    const record: MoverRecord = { format: 1, holder, leaseMs, beat: 0 };
    const entered = await from.commit({
      // Once the store is moved nobody can become its mover any more.
      conditions: [
        { key: MOVER_KEY, revision },
        { key: PHASE_KEY, revision: phase.revision },
      ],
      writes: [recordWrite(MOVER_KEY, record)],
    });
    if (entered === undefined) throw busy();
    return new MoverTenure(parts, entered);
  }

  /** For every commit to the old store that belongs to the move. */
  get condition(): StoreCondition {
    return { key: MOVER_KEY, revision: this.revision };
  }

  /** Says that this process is still at it, when it is time for that. @throws StoreMoveError when another one has taken over */
  async keep(): Promise<void> {
    const { from, clock, leaseMs, holder } = this.parts;
    const now = clock.monotonic();
    if (now - this.#beatAt < leaseMs / BEATS_PER_LEASE) return;
    this.#beat += 1;
    const record: MoverRecord = { format: 1, holder, leaseMs, beat: this.#beat };
    const kept = await from.commit({ conditions: [this.condition], writes: [recordWrite(MOVER_KEY, record)] });
    if (kept === undefined) throw busy();
    [this.revision, this.#beatAt] = [kept, now];
  }

  /** Leaves the move to whoever asks for it next. */
  async leave(): Promise<void> {
    await this.parts.from.commit({ conditions: [this.condition], writes: [{ key: MOVER_KEY, value: null }] });
  }
}

/** The revision of the entry of a mover that is not at it any more; 0 where there is none. */
async function silentMover({ from, clock, signal }: TenureParts): Promise<number> {
  const found = await readMover(from);
  if (found === undefined) return 0;
  const { leaseMs } = found.record;
  const began = clock.monotonic();
  while (clock.monotonic() - began <= leaseMs) {
    if (signal.aborted) throw busy();
    await pause(clock, leaseMs / LOOKS_PER_LEASE, signal);
    const now = await readMover(from);
    if (now === undefined) return 0;
    if (now.revision !== found.revision) throw busy();
  }
  return found.revision;
}

export function busy(): StoreMoveError {
  return new StoreMoveError(
    'STORE_MOVE_BUSY',
    'Another process carries out the move of the store, or has given it up. Look at phase(), and call move() again if it has come to no end.',
  );
}
