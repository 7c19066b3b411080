import type { Subject } from 'rxjs';
import { type Clock, hold, pause } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import type { Ids } from '../foundation/ids.js';
import { Arrival, markArrived, refuseUsed } from './arrival.js';
import { type CopyPass, copyPass } from './copy-pass.js';
import { StoreMoveError } from './move-errors.js';
import type { MoveEvent, MoveReport } from './move-events.js';
import { CUT_OVER_AFTER_MS, type MoveGate } from './move-gate.js';
import {
  type KnownPhase,
  MOVER_KEY,
  type MovePhase,
  PHASE_KEY,
  type PhaseRecord,
  recordWrite,
} from './move-records.js';
import { busy, MoverTenure } from './mover-tenure.js';
import type { StoreDriver, StoreWrite } from './store-driver.js';
import { refuseUnaware } from './unaware-instances.js';

/** As few differences as a pass while commits wait is to find. */
const FEW = 50;
/** A store that always has more than that is frozen all the same. */
const MOST_PASSES = 10;
const MOST_FREEZES = 5;

export interface StoreMoverParts {
  readonly from: StoreDriver;
  readonly to: StoreDriver;
  readonly gate: MoveGate;
  /** What is added to the revisions of the old store. */
  readonly base: () => number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly events: Subject<MoveEvent>;
  readonly signal: AbortSignal;
  readonly freezeMs: number;
  readonly leaseMs: number;
}

/** What one attempt at a move works with. */
interface Attempt {
  readonly tenure: MoverTenure;
  readonly arrival: Arrival;
  readonly startedAt: number;
  passes: number;
}

/** The freeze took longer than it may. Never leaves this file. */
class Overdue extends Error {}

/** Carries a move out: copying, catching up, the freeze, the comparison, the cut-over. */
export class StoreMover {
  #moving: Promise<MoveReport> | undefined;

  constructor(private readonly parts: StoreMoverParts) {}

  /** Those who ask at one time in this process share a move. */
  move(): Promise<MoveReport> {
    this.#moving ??= hold(this.parts.clock, this.#moveOnce()).finally(() => (this.#moving = undefined));
    return this.#moving;
  }

  async giveUp(): Promise<void> {
    const { gate } = this.parts;
    for (;;) {
      const before = await gate.confirm();
      const { phase } = before.record;
      if (phase === 'none') return;
      if (phase === 'moved')
        throw new StoreMoveError(
          'STORE_MOVE_REFUSED',
          'The store was moved already. To go back, move it the other way, into an emptied store.',
        );
      // Whoever carries it out finds that it is not his any more.
      if (await this.#enter(before, 'none', [{ key: MOVER_KEY, value: null }])) return this.#tell({ type: 'given-up' });
    }
  }

  /** Says in the new store that the old one was moved to it. */
  async arrive(): Promise<void> {
    const { to, gate, base } = this.parts;
    const { record, revision } = gate.known;
    await markArrived(to, record, base() + revision);
  }

  async #moveOnce(): Promise<MoveReport> {
    const { gate, clock, from, to, ids, signal, leaseMs } = this.parts;
    const startedAt = clock.now();
    let phase = await gate.confirm();
    if (phase.record.phase === 'moved') {
      // Where only the new store was opened, it has said so already.
      if (phase.record.cut !== undefined) await this.arrive();
      return reportOf(phase.record);
    }
    await refuseUnaware(this.parts.from);
    if (phase.record.phase === 'none') await refuseUsed(to);
    const tenure = await MoverTenure.enter({ from, clock, signal, leaseMs, holder: ids.next() }, phase);
    try {
      phase = await this.#begun(phase, tenure);
      const arrival = await Arrival.claim(to, phase.record.id, from.name);
      return await this.#carryOut({ tenure, arrival, startedAt, passes: 0 });
    } catch (error) {
      const after = await gate.confirm().catch(() => undefined);
      if (after?.record.phase === 'frozen') await this.#thaw(tenure).catch(() => undefined);
      if (after?.record.phase !== 'moved') await tenure.leave().catch(() => undefined);
      const code = isSecretsError(error) ? error.code : 'STORE_MOVE_FAILED';
      const message = isSecretsError(error) ? error.message : 'a driver failed';
      this.#tell({ type: 'failed', code, message });
      throw error;
    }
  }

  /** Begins to copy, or goes on with what another mover has left. */
  async #begun(phase: KnownPhase, tenure: MoverTenure): Promise<KnownPhase> {
    const { gate, ids, to, freezeMs } = this.parts;
    if (phase.record.phase === 'frozen') await this.#thaw(tenure);
    if (phase.record.phase === 'none') {
      const record: PhaseRecord = { format: 1, phase: 'copying', id: ids.next(), to: to.name, freezeMs };
      if (!(await this.#commit(phase, record, tenure))) throw busy();
    }
    const now = await gate.confirm();
    if (now.record.phase !== 'copying') throw busy();
    this.#tell({ type: 'copying' });
    return now;
  }

  async #carryOut(attempt: Attempt): Promise<MoveReport> {
    for (let freeze = 0; freeze < MOST_FREEZES; freeze += 1) {
      for (let pass = 0; pass < MOST_PASSES; pass += 1) {
        const { changed } = await this.#pass(attempt, Number.POSITIVE_INFINITY);
        if (changed <= FEW) break;
      }
      const report = await this.#freeze(attempt);
      if (report !== undefined) return report;
    }
    throw new StoreMoveError(
      'STORE_MOVE_FAILED',
      `The store could not be compared within ${this.parts.freezeMs} ms, ${MOST_FREEZES} times. Move it at a quieter time, or let commits wait for longer: movingStore({ …, freezeMs }). Nothing was moved, and what was copied stays for the next attempt.`,
    );
  }

  /** Undefined when it took too long, and was taken back. */
  async #freeze(attempt: Attempt): Promise<MoveReport | undefined> {
    const { gate, clock, freezeMs } = this.parts;
    const { tenure, arrival } = attempt;
    const before = await gate.confirm();
    if (before.record.phase !== 'copying') throw busy();
    const frozenSince = clock.monotonic();
    if (!(await this.#commit(before, { ...before.record, phase: 'frozen', freezeMs }, tenure))) throw busy();
    const frozenAt = clock.monotonic();
    this.#tell({ type: 'frozen' });
    try {
      await arrival.fence();
      const pass = await this.#untilSame(attempt, frozenAt + freezeMs);
      await pause(clock, Math.max(0, frozenAt + CUT_OVER_AFTER_MS - clock.monotonic()), this.parts.signal);
      await refuseUnaware(this.parts.from);
      return await this.#cutOver(attempt, pass, frozenSince);
    } catch (error) {
      if (!(error instanceof Overdue)) throw error;
      await this.#thaw(tenure);
      return undefined;
    }
  }

  /** Copies what is left until both sides are the same. */
  async #untilSame(attempt: Attempt, deadline: number): Promise<CopyPass> {
    for (;;) {
      const pass = await this.#pass(attempt, deadline);
      if (pass.changed === 0 && pass.digests.from === pass.digests.to) return pass;
    }
  }

  async #pass(attempt: Attempt, deadline: number): Promise<CopyPass> {
    const { from, to, clock, signal } = this.parts;
    const { tenure, arrival } = attempt;
    const pass = await copyPass({
      from,
      to,
      write: (writes) => arrival.write(writes),
      beforePage: async () => {
        if (signal.aborted) throw busy();
        if (clock.monotonic() > deadline) throw new Overdue();
        await tenure.keep();
      },
    });
    attempt.passes += 1;
    this.#tell({ type: 'copied', pass: attempt.passes, entries: pass.entries, changed: pass.changed });
    return pass;
  }

  async #cutOver(attempt: Attempt, pass: CopyPass, frozenSince: number): Promise<MoveReport | undefined> {
    const { gate, to, clock } = this.parts;
    const frozen = gate.known;
    if (frozen.record.phase !== 'frozen') return undefined;
    const report: MoveReport = {
      id: frozen.record.id,
      entries: pass.entries,
      digest: pass.digests.from,
      passes: attempt.passes,
      frozenMs: clock.monotonic() - frozenSince,
      tookMs: clock.now() - attempt.startedAt,
    };
    const record: PhaseRecord = { ...frozen.record, phase: 'moved', cut: await to.revision(), report };
    const isMoved = await this.#commit(frozen, record, attempt.tenure, [{ key: MOVER_KEY, value: null }]);
    if (!isMoved) return this.#thawedByOthers();
    await this.arrive();
    this.#tell({ type: 'moved', ...report });
    return report;
  }

  /** Somebody who waited has ended the freeze, or another process has taken the move over. */
  async #thawedByOthers(): Promise<undefined> {
    if ((await this.parts.gate.confirm()).record.phase !== 'copying') throw busy();
    this.#tell({ type: 'thawed' });
    return undefined;
  }

  async #thaw(tenure: MoverTenure): Promise<void> {
    const before = await this.parts.gate.confirm();
    if (before.record.phase !== 'frozen') return;
    if (await this.#commit(before, { ...before.record, phase: 'copying' }, tenure)) this.#tell({ type: 'thawed' });
  }

  async #enter(before: KnownPhase, phase: MovePhase, also: readonly StoreWrite[]): Promise<boolean> {
    return this.#commit(before, { ...before.record, phase }, undefined, also);
  }

  /** Goes from one phase to the next, on condition that this process is still the mover. Whether it did, also when the answer was lost. */
  async #commit(
    before: KnownPhase,
    record: PhaseRecord,
    tenure: MoverTenure | undefined,
    also: readonly StoreWrite[] = [],
  ): Promise<boolean> {
    const { from, gate, clock } = this.parts;
    const askedAt = clock.monotonic();
    try {
      const revision = await from.commit({
        conditions: [
          { key: PHASE_KEY, revision: before.revision },
          ...(tenure === undefined ? [] : [tenure.condition]),
        ],
        writes: [recordWrite(PHASE_KEY, record), ...also],
      });
      if (revision === undefined) return false;
      gate.confirmed({ record, revision }, askedAt);
      return true;
    } catch (error) {
      const after = await gate.confirm().catch(() => undefined);
      if (after !== undefined && after !== before && after.record.phase === record.phase) return true;
      throw error;
    }
  }

  #tell(event: WithoutPlace<MoveEvent>): void {
    const { events, clock, gate } = this.parts;
    events.next({ ...event, at: clock.now(), id: gate.known.record.id });
  }
}

type WithoutPlace<E> = E extends unknown ? Omit<E, 'at' | 'id'> : never;

/** What is still known of a move that was made before, or elsewhere. */
function reportOf({ id, report }: PhaseRecord): MoveReport {
  return report ?? { id, entries: 0, digest: '', passes: 0, frozenMs: 0, tookMs: 0 };
}
