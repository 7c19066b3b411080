import { type ChainKey, parseRecord, type RecordFields } from './audit-chain.js';
import {
  type AuditFileHeader,
  auditFileNumber,
  isBeginningOfHeader,
  isFileHeader,
  parseFileHeader,
} from './audit-file-header.js';
import { isTornTail } from './audit-file-recovery.js';
import type { AuditFindingKind, AuditFindings } from './audit-findings.js';
import type { AuditLine } from './audit-reader.js';
import { appendLeaf, EMPTY_TREE, merkleRoot, type MerkleTree } from './merkle-tree.js';

export interface ChainWalkParts {
  /** Undefined for somebody who has none: lines are then only held against each other, and against the checkpoints. */
  readonly keys: readonly ChainKey[] | undefined;
  readonly findings: AuditFindings;
  readonly clockToleranceMs: number;
  /** Older files were moved elsewhere on purpose. */
  readonly isArchived: boolean;
  /** The tree has a new size; `isSound` while nothing before it was found wrong. */
  onRecord(sequence: number, root: () => Buffer, isSound: boolean): void;
}

interface Gap {
  first: number;
  last: number;
  readonly file: string;
  readonly line: number;
}

const MOST_GAPS = 1000;

/** Goes through the lines of a log from the first to the last, and says at each what is wrong with it. Constant memory. */
export class ChainWalk {
  records = 0;
  files = 0;
  first = 0;
  /** The highest sequence number so far. */
  last = 0;
  #previous: string | undefined;
  #tree: MerkleTree = EMPTY_TREE;
  #isSound = true;
  #time = Number.NEGATIVE_INFINITY;
  #file = '';
  #fileNumber = 0;
  #gaps: Gap[] = [];
  /** Lines that are no genuine records; whether they replace some or were put between is told by the next genuine one. */
  #foreign: { readonly line: AuditLine; readonly kind: AuditFindingKind }[] = [];
  #foreignCount = 0;
  #unfinished: AuditLine | undefined;

  constructor(private readonly parts: ChainWalkParts) {}

  take(line: AuditLine): void {
    if (this.#unfinished !== undefined) this.#foreignLine(this.#unfinished, 'edited');
    this.#unfinished = undefined;
    if (line.file !== this.#file) {
      this.#file = line.file;
      this.files += 1;
    }
    if (isFileHeader(line.bytes) || (line.line === 1 && auditFileNumber(line.file) !== undefined))
      this.#takeHeader(line);
    else this.#takeRecord(line);
  }

  /** Nothing follows. `expected`: how many records there were, going by checkpoints. */
  end(expected: number): void {
    const last = this.#unfinished;
    if (last !== undefined && this.#isTorn(last)) {
      this.#find(
        'torn-tail',
        last,
        this.last + 1,
        undefined,
        'the last record was not written to its end; opening the log removes it',
      );
    } else if (last !== undefined) this.#foreignLine(last, 'edited');
    // Without a checkpoint that tells, foreign lines at the end count as records changed, since that is the graver of the two.
    this.#settleForeign(Math.max(expected === 0 ? this.last + this.#foreignCount : expected, this.last) + 1);
    for (const { first, last: through, file, line } of this.#gaps) {
      this.parts.findings.add({
        kind: 'deleted',
        file,
        line,
        sequence: first,
        through,
        message: `records ${first} to ${through} are missing`,
      });
    }
  }

  #isTorn({ bytes, line }: AuditLine): boolean {
    return isTornTail(bytes, this.last + 1) || (line === 1 && isBeginningOfHeader(bytes));
  }

  #takeHeader(line: AuditLine): void {
    const number = auditFileNumber(line.file);
    const header = parseFileHeader(line.bytes);
    const key = this.#keyFor(header?.keyId);
    if (header === undefined || line.line !== 1 || header.file !== number || key?.verifies(line.bytes) === false) {
      if (!line.isTerminated) this.#unfinished = line;
      else this.#bad('header-edited', line, this.last + 1, 'is not the header that was written');
      this.#fileNumber = number ?? this.#fileNumber + 1;
      return;
    }
    if (this.parts.keys !== undefined && key === undefined) {
      this.#bad('key-changed', line, header.first, `was begun with the key ${header.keyId}, which was not given`);
    } else if (key !== undefined && header.origin !== key.origin) {
      this.#bad('header-edited', line, this.last + 1, `belongs to the log ${header.origin}`);
    }
    const isFirst = this.files === 1;
    if (isFirst && this.parts.isArchived) {
      this.last = header.first - 1;
      this.#previous = header.previous;
      this.#tree = header.tree;
      this.#fileNumber = header.file - 1;
    } else this.#beginChain(key);
    this.#settleForeign(header.first, header.previous);
    this.#goOn(line, header);
    this.#fileNumber = header.file;
  }

  /** Whether the file goes on where the one before it ended. */
  #goOn(line: AuditLine, { file, first, previous }: AuditFileHeader): void {
    const [expectedFile, expectedFirst] = [this.#fileNumber + 1, this.last + 1];
    if (file === expectedFile && first === expectedFirst) {
      // A record that stands too early in the file before hides what this one goes on from.
      if (this.#previous === undefined || previous === this.#previous || this.#gaps.length > 0) return;
      this.#bad('forked', line, first, 'does not go on from the file before it');
      return;
    }
    const records = `the records ${expectedFirst} to ${first - 1} are missing`;
    if (file !== expectedFile) {
      const files = file - 1 === expectedFile ? `file ${expectedFile}` : `the files ${expectedFile} to ${file - 1}`;
      this.#bad('file-missing', line, expectedFirst, `${files} and ${records}`, first - 1);
    } else if (first > expectedFirst) this.#gap(first, line);
    else if (this.#gaps.length === 0)
      this.#bad('forked', line, first, `begins with record ${first}, behind record ${this.last}`);
    this.last = Math.max(this.last, first - 1);
    this.#previous = previous;
  }

  #gap(next: number, { file, line }: AuditLine): void {
    this.#isSound = false;
    if (this.#gaps.length < MOST_GAPS) this.#gaps.push({ first: this.last + 1, last: next - 1, file, line });
  }

  /** What the first record goes on from depends on the key it was made with. */
  #beginChain(key: ChainKey | undefined): void {
    if (this.files === 1 && this.records === 0) this.#previous ??= key?.genesis;
  }

  #keyFor(id: string | undefined): ChainKey | undefined {
    return this.parts.keys?.find((key) => key.id === id);
  }

  #takeRecord(line: AuditLine): void {
    const record = parseRecord(line.bytes);
    if (record === undefined || !Number.isSafeInteger(record.sequence)) {
      if (line.isTerminated) this.#foreignLine(line, 'edited');
      else this.#unfinished = line;
      return;
    }
    if (this.parts.keys !== undefined) {
      const key = this.#keyFor(record.keyId);
      if (key === undefined) return this.#foreignLine(line, 'key-changed');
      if (!key.verifies(line.bytes)) {
        if (line.isTerminated) this.#foreignLine(line, 'edited');
        else this.#unfinished = line;
        return;
      }
      this.#beginChain(key);
    }
    this.#genuine(line, record);
    if (!line.isTerminated) {
      this.#find(
        'torn-tail',
        line,
        record.sequence,
        undefined,
        'the line feed behind the last record is missing; opening the log adds it',
      );
    }
  }

  #genuine(line: AuditLine, record: RecordFields): void {
    const { sequence } = record;
    this.records += 1;
    if (sequence <= this.last) {
      this.#settleForeign(this.last + 1);
      this.#outOfPlace(line, sequence);
      return;
    }
    this.#settleForeign(sequence, record.previous);
    if (sequence > this.last + 1) {
      this.#gap(sequence, line);
    } else if (this.#previous !== undefined && record.previous !== this.#previous) {
      this.#bad('forked', line, sequence, `does not follow upon record ${this.last}`);
    }
    if (this.first === 0) this.first = sequence;
    this.#checkClock(line, record);
    this.last = sequence;
    this.#previous = record.mac;
    if (this.#isSound) this.#tree = appendLeaf(this.#tree, line.bytes);
    this.parts.onRecord(sequence, () => merkleRoot(this.#tree), this.#isSound);
  }

  #outOfPlace(line: AuditLine, sequence: number): void {
    const gap = this.#gaps.find(({ first, last }) => first <= sequence && sequence <= last);
    if (gap === undefined) {
      this.#bad('duplicated', line, sequence, `record ${sequence} stands here again`);
      return;
    }
    this.#bad('reordered', line, sequence, `record ${sequence} stands behind record ${this.last}`);
    // What is left of the gap around it.
    this.#gaps = this.#gaps.flatMap((one) => {
      if (one !== gap) return [one];
      const parts = [
        { ...gap, last: sequence - 1 },
        { ...gap, first: sequence + 1 },
      ];
      return parts.filter(({ first, last }) => first <= last);
    });
  }

  #foreignLine(line: AuditLine, kind: AuditFindingKind): void {
    this.#isSound = false;
    this.#foreignCount += 1;
    if (this.#foreign.length < MOST_GAPS) this.#foreign.push({ line, kind });
  }

  /** Now that a genuine record or header is there, or the end: as many foreign lines as records are missing stand in their place, the rest was put in. */
  #settleForeign(next: number, previous?: string): void {
    if (this.#foreignCount === 0) return;
    const missing = Math.max(0, next - this.last - 1);
    for (const [index, { line, kind }] of this.#foreign.entries()) {
      const sequence = index < missing ? this.last + 1 + index : undefined;
      if (kind === 'key-changed') this.#find(kind, line, sequence, undefined, 'was made with a key that was not given');
      else if (sequence !== undefined)
        this.#find('edited', line, sequence, undefined, `is not the record ${sequence} that was written here`);
      else
        this.#find(
          'inserted',
          line,
          this.last + missing,
          undefined,
          `was not written by this log; it stands behind record ${this.last + missing}`,
        );
    }
    const accounted = Math.min(missing, this.#foreignCount);
    if (accounted > 0) {
      this.last += accounted;
      // Whether the next one follows upon what was there before cannot be told any more, unless it says so itself.
      this.#previous = this.last + 1 === next ? previous : undefined;
    }
    this.#foreign = [];
    this.#foreignCount = 0;
  }

  #checkClock(line: AuditLine, { sequence, time }: RecordFields): void {
    if (time < this.#time - this.parts.clockToleranceMs) {
      const back = this.#time - time;
      this.#find('clock-back', line, sequence, undefined, `the clock had gone back by ${back} ms`);
    }
    this.#time = time;
  }

  #bad(kind: AuditFindingKind, line: AuditLine, sequence: number | undefined, what: string, through?: number): void {
    this.#isSound = false;
    this.#find(kind, line, sequence, through, what);
  }

  #find(
    kind: AuditFindingKind,
    line: AuditLine,
    sequence: number | undefined,
    through: number | undefined,
    what: string,
  ): void {
    this.parts.findings.add({
      kind,
      file: line.file,
      line: line.line,
      ...(sequence !== undefined && { sequence }),
      ...(through !== undefined && { through }),
      message: `${line.file}, line ${line.line}: ${what}`,
    });
  }
}
