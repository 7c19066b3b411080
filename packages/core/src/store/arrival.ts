import { StoreMoveError } from './move-errors.js';
import {
  ARRIVAL_KEY,
  type ArrivalRecord,
  type PhaseRecord,
  readArrival,
  readPhase,
  recordWrite,
} from './move-records.js';
import { isEmpty } from './copy-pass.js';
import { busy } from './mover-tenure.js';
import type { StoreDriver, StoreWrite } from './store-driver.js';

/**
 * The new store, as its mover writes to it: each commit on condition that nobody has put up another fence since, so that neither a mover that was replaced nor a commit that
 * was given up and is still on its way can write to it after the comparison.
 */
export class Arrival {
  private constructor(
    private readonly to: StoreDriver,
    private record: ArrivalRecord,
    private revision: number,
  ) {}

  /**
   * Takes the new store for a move, or goes on with it.
   * @throws StoreMoveError `STORE_MOVE_REFUSED` when it holds something else
   */
  static async claim(to: StoreDriver, id: string, from: string): Promise<Arrival> {
    const found = await readArrival(to);
    if (found === undefined) await refuseUsed(to);
    else if (found.record.id !== id || found.record.state !== 'arriving') throw used(to);
    const arrival = new Arrival(
      to,
      found?.record ?? { format: 1, state: 'arriving', id, from, fence: 0 },
      found?.revision ?? 0,
    );
    await arrival.fence();
    return arrival;
  }

  /** From here on nothing of before can arrive. */
  async fence(): Promise<void> {
    const record = { ...this.record, fence: this.record.fence + 1 };
    const revision = await this.to.commit({
      conditions: [{ key: ARRIVAL_KEY, revision: this.revision }],
      writes: [recordWrite(ARRIVAL_KEY, record)],
    });
    if (revision === undefined) throw busy();
    [this.record, this.revision] = [record, revision];
  }

  async write(writes: readonly StoreWrite[]): Promise<void> {
    const done = await this.to.commit({ conditions: [{ key: ARRIVAL_KEY, revision: this.revision }], writes });
    if (done === undefined) throw busy();
  }
}

/** Says in the new store that all is there. Whoever comes first does it. */
export async function markArrived(to: StoreDriver, { id, report }: PhaseRecord, offset: number): Promise<void> {
  for (;;) {
    const found = await readArrival(to);
    if (found === undefined || found.record.id !== id)
      throw new StoreMoveError(
        'STORE_MOVE_FAILED',
        `The old store says that it was moved to ${to.name}, which is not the store that it was moved to. Point \`to\` to that one.`,
      );
    if (found.record.state === 'arrived') return;
    const record: ArrivalRecord = { ...found.record, state: 'arrived', offset, ...(report && { report }) };
    const done = await to.commit({
      conditions: [{ key: ARRIVAL_KEY, revision: found.revision }],
      writes: [recordWrite(ARRIVAL_KEY, record)],
    });
    if (done !== undefined) return;
  }
}

/** @throws StoreMoveError `STORE_MOVE_REFUSED` when there is anything in a store that is to be moved to */
export async function refuseUsed(to: StoreDriver): Promise<void> {
  if ((await readArrival(to)) !== undefined || (await readPhase(to)).revision > 0 || !(await isEmpty(to)))
    throw used(to);
}

function used(to: StoreDriver): StoreMoveError {
  return new StoreMoveError(
    'STORE_MOVE_REFUSED',
    `The store ${to.name} is not empty, so nothing can be moved to it. Empty it, or make another one; what an earlier move has left there may go.`,
  );
}
