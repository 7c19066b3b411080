import type { SealedRecord } from './audit-chain.js';

/** The latest records, for the sinks that do not have them yet. Holds a bounded amount of bytes. */
export class RecordBuffer {
  #records: SealedRecord[] = [];
  #length = 0;

  constructor(readonly limit: number) {}

  push(records: readonly SealedRecord[]): void {
    this.#records.push(...records);
    for (const { bytes } of records) this.#length += bytes.length;
  }

  /** Lets go of what everyone has, and of the oldest beyond the limit, but never of what `needed` still waits for. */
  trim(everyoneHas: number, needed: number): void {
    let dropped = 0;
    for (const { sequence, bytes } of this.#records) {
      if (sequence > needed || (sequence > everyoneHas && this.#length <= this.limit)) break;
      this.#length -= bytes.length;
      dropped += 1;
    }
    if (dropped > 0) this.#records = this.#records.slice(dropped);
  }

  /** At most `limit` records behind a sequence number; undefined when the first of them is not here any more. */
  after(sequence: number, limit: number): readonly SealedRecord[] | undefined {
    const first = this.#records[0]?.sequence;
    if (first === undefined || first > sequence + 1) return undefined;
    const start = sequence + 1 - first;
    return start === 0 && this.#records.length <= limit ? this.#records : this.#records.slice(start, start + limit);
  }

  /** The oldest there are. */
  oldest(limit: number): readonly SealedRecord[] {
    return this.#records.slice(0, limit);
  }
}
