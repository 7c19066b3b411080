import {
  type AuditLine,
  type AuditReader,
  type Checkpoint,
  checkpointNotes,
  signCheckpoint,
} from '@nestjs-secrets/core';
import { type ChainHead, ChainKey, emptyChain, sealRecord } from '../../src/audit/audit-chain.js';
import { auditFileName, sealFileHeader } from '../../src/audit/audit-file-header.js';
import { merkleRoot } from '../../src/audit/merkle-tree.js';
import { KEY, ORIGIN, SIGNER } from './audit-world.js';

/** Where a record stands, and when it was made. */
export interface LogPlan {
  readonly records: number;
  readonly recordsAFile: number;
  readonly recordsACheckpoint: number;
  /** What an event says; its number by default. */
  readonly says?: (sequence: number) => string;
  readonly timeOf?: (sequence: number) => number;
  readonly keyOf?: (sequence: number) => ChainKey;
}

export const chainKey = new ChainKey(KEY, ORIGIN);
const PLAN: LogPlan = { records: 24, recordsAFile: 6, recordsACheckpoint: 12 };
const START = Date.UTC(2026, 10, 25);

/** A log as it lies in its files, to be tampered with. */
export class StoredLog {
  constructor(
    readonly files: Map<string, Buffer>,
    readonly notes: readonly string[],
  ) {}

  /** Written like `AuditLog` and `auditFiles` do, without the disk. */
  static write(plan: Partial<LogPlan> = {}): StoredLog {
    const {
      records,
      recordsAFile,
      recordsACheckpoint,
      says = (sequence: number) => String(sequence),
      timeOf = (sequence: number) => START + sequence * 1000,
      keyOf = () => chainKey,
    } = { ...PLAN, ...plan };
    const files = new Map<string, Buffer>();
    const checkpoints: Checkpoint[] = [];
    let head: ChainHead = emptyChain(chainKey);
    let lines: string[] = [];
    for (let sequence = 1; sequence <= records; sequence += 1) {
      const iso = new Date(timeOf(sequence)).toISOString();
      if ((sequence - 1) % recordsAFile === 0) lines = [sealFileHeader(keyOf(sequence), files.size + 1, head, iso)];
      const record = sealRecord(
        keyOf(sequence),
        head,
        `{"says":${JSON.stringify(says(sequence))}}`,
        timeOf(sequence),
        iso,
      );
      head = record;
      lines.push(record.line);
      if (sequence % recordsAFile === 0 || sequence === records)
        files.set(auditFileName(files.size + 1), Buffer.from(`${lines.join('\n')}\n`));
      if (sequence % recordsACheckpoint === 0 || sequence === records) {
        const number = checkpoints.length + 1;
        const [size, root] = [sequence, merkleRoot(head.tree)];
        checkpoints.push(signCheckpoint(SIGNER, { origin: ORIGIN, size, root, number, time: iso, extensions: [] }));
      }
    }
    return new StoredLog(
      files,
      checkpoints.map(({ note }) => note),
    );
  }

  copy(): StoredLog {
    return new StoredLog(new Map(this.files), [...this.notes]);
  }

  with(file: string, lines: readonly string[]): StoredLog {
    const changed = this.copy();
    changed.files.set(file, Buffer.from(`${lines.join('\n')}\n`));
    return changed;
  }

  /** The lines of a file, its header first. */
  lines(file: string): string[] {
    return (this.files.get(file) ?? Buffer.alloc(0)).toString('utf8').trimEnd().split('\n');
  }

  get reader(): AuditReader {
    const { files } = this;
    return {
      name: 'a log in memory',
      async *lines() {
        for (const [file, bytes] of files) yield linesOf(file, bytes);
      },
      async *linesBackwards() {
        for (const [file, bytes] of [...files].toReversed()) yield linesOf(file, bytes).toReversed();
      },
    };
  }

  place(name = 'a place'): ReturnType<typeof checkpointNotes> {
    return checkpointNotes(name, this.notes);
  }
}

function linesOf(file: string, bytes: Buffer): AuditLine[] {
  const lines: AuditLine[] = [];
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf('\n', start);
    const isTerminated = end !== -1;
    lines.push({
      file,
      line: lines.length + 1,
      bytes: bytes.subarray(start, isTerminated ? end : undefined),
      isTerminated,
    });
    start = isTerminated ? end + 1 : bytes.length;
  }
  return lines;
}
