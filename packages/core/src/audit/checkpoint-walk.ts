import type { AuditFindings } from './audit-findings.js';
import { type Checkpoint, type CheckpointVerifier, openCheckpoint } from './checkpoint.js';
import type { CheckpointNotes } from './checkpoint-place.js';

export interface CheckpointWalkParts {
  readonly origin: string;
  readonly verifiers: readonly CheckpointVerifier[];
  readonly findings: AuditFindings;
  /** Older ones may have been moved elsewhere, with the files they are about. */
  readonly isArchived: boolean;
}

/** Holds the checkpoints of one place against the log, both read side by side. */
export class CheckpointWalk {
  /** Signed checkpoints seen. */
  count = 0;
  /** The highest size whose root was that of the records. */
  covered = 0;
  /** Number and size of the last signed one. */
  last: { readonly number: number; readonly size: number } = { number: 0, size: 0 };
  readonly #notes: AsyncIterator<string>;
  #next: Checkpoint | undefined;
  #line = 0;
  #total = 0;
  #isOver = false;
  #hasMismatch = false;

  constructor(
    private readonly place: CheckpointNotes,
    private readonly parts: CheckpointWalkParts,
  ) {
    this.#notes = place.notes()[Symbol.asyncIterator]();
  }

  get name(): string {
    return this.place.name;
  }

  /** The size of the next checkpoint; undefined when there is none. */
  get nextSize(): number | undefined {
    return this.#next?.size;
  }

  /**
   * Counts the notes there are and goes to the first. To be called before the log is read: a checkpoint made meanwhile would speak of records that were
   * not there yet when the log was read.
   */
  async begin(): Promise<void> {
    const notes = this.place.notes()[Symbol.asyncIterator]();
    while ((await notes.next()).done !== true) this.#total += 1;
    await this.advance();
  }

  /** Reads on to the next checkpoint that can be trusted. */
  async advance(): Promise<void> {
    this.#next = undefined;
    while (!this.#isOver && this.#next === undefined) {
      const { value, done } = await this.#notes.next();
      if (done === true || this.#line === this.#total) this.#isOver = true;
      else {
        this.#line += 1;
        this.#next = this.#open(value);
      }
    }
  }

  /** The log has as many records as the next checkpoint says. */
  compare(root: Buffer, isSound: boolean): void {
    const next = this.#next;
    if (next === undefined || !isSound) return;
    if (next.root.equals(root)) this.covered = next.size;
    else if (!this.#hasMismatch) {
      this.#hasMismatch = true;
      const first = this.covered + 1;
      this.#find(
        'checkpoint-mismatch',
        first,
        next.size,
        `the records ${first} to ${next.size} are not those that checkpoint ${next.number} was made of`,
      );
    }
  }

  #open(note: string): Checkpoint | undefined {
    let checkpoint: Checkpoint;
    try {
      checkpoint = openCheckpoint(note, this.parts.verifiers);
    } catch (error) {
      const why = error instanceof Error ? error.message : 'cannot be read';
      this.#find('checkpoint-invalid', undefined, undefined, `note ${this.#line} ${why}`);
      // Its number counts as seen, so that it is not reported as missing as well.
      this.last = { number: this.last.number + 1, size: this.last.size };
      return undefined;
    }
    if (checkpoint.origin !== this.parts.origin) {
      this.#find('checkpoint-invalid', undefined, undefined, `note ${this.#line} is of the log ${checkpoint.origin}`);
      return undefined;
    }
    this.count += 1;
    this.#checkNumber(checkpoint);
    this.last = checkpoint;
    return checkpoint;
  }

  #checkNumber({ number, size }: Checkpoint): void {
    const { number: before, size: sizeBefore } = this.last;
    if (number === before + 1 && size >= sizeBefore) return;
    if (this.parts.isArchived && this.count === 1) return;
    // Written twice when the process died between writing and noting it: the same number, the same size.
    if (number === before && size === sizeBefore) return;
    if (number > before + 1) {
      this.#find('checkpoint-missing', undefined, undefined, `checkpoints ${before + 1} to ${number - 1} are missing`);
    } else {
      this.#find(
        'checkpoint-invalid',
        undefined,
        undefined,
        `checkpoint ${number} of ${size} records stands behind checkpoint ${before} of ${sizeBefore}`,
      );
    }
  }

  #find(
    kind: 'checkpoint-mismatch' | 'checkpoint-invalid' | 'checkpoint-missing',
    sequence: number | undefined,
    through: number | undefined,
    what: string,
  ): void {
    this.parts.findings.add({
      kind,
      file: this.place.name,
      line: this.#line,
      ...(sequence !== undefined && { sequence }),
      ...(through !== undefined && { through }),
      message: `${this.place.name}: ${what}`,
    });
  }
}
