import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { type ChainHead, type ChainKey, emptyChain, isBeginningOfRecord, parseRecord } from './audit-chain.js';
import { AuditLogDamagedError } from './audit-errors.js';
import { isBeginningOfHeader, parseFileHeader } from './audit-file-header.js';
import { fileLines } from './audit-folder-reader.js';
import type { AuditLine } from './audit-reader.js';
import { appendLeaf } from './merkle-tree.js';

/** Where a file of the log ends. */
export interface RecoveredFile {
  /** Undefined when the file has no whole header: the process died while it began the file, and nothing is in it. */
  readonly head: ChainHead | undefined;
  /** Bytes of it that are whole. */
  readonly size: number;
  /** Bytes behind them that were removed. */
  readonly cut: number;
  /** When it was begun, in milliseconds since the Unix epoch. */
  readonly begun: number;
}

/**
 * Whether bytes without a line feed at the end of a log are what a process leaves that died while it wrote: the beginning of the record due there, and
 * perhaps zeros, which a power cut leaves of pages that were promised and not written.
 */
export function isTornTail(bytes: Buffer, sequence: number): boolean {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  const written = bytes.subarray(0, end);
  return !written.includes(0) && isBeginningOfRecord(written, sequence);
}

/**
 * Reads the last file of a log, checks every line, and cuts off what a death in mid-write left.
 * @throws AuditLogDamagedError when anything else is wrong with it
 */
export async function recoverFile(path: string, number: number, keys: readonly ChainKey[]): Promise<RecoveredFile> {
  const reading = new FileReading(path, number, keys);
  for await (const lines of fileLines(path)) for (const line of lines) reading.take(line);
  const { head, size, begun, tail, lacksLineFeed } = reading;
  const whole = head === undefined ? 0 : size;
  if (tail === 0 && !lacksLineFeed) return { head, size: whole, cut: 0, begun };
  const file = await open(path, 'r+');
  try {
    return { head, size: await repair(file, whole, lacksLineFeed), cut: tail, begun };
  } finally {
    await file.close();
  }
}

async function repair(file: FileHandle, size: number, lacksLineFeed: boolean): Promise<number> {
  if (lacksLineFeed) await file.write('\n', size);
  const repaired = lacksLineFeed ? size + 1 : size;
  await file.truncate(repaired);
  await file.sync();
  return repaired;
}

class FileReading {
  head: ChainHead | undefined;
  size = 0;
  begun = 0;
  /** Bytes at the end that are no record. */
  tail = 0;
  lacksLineFeed = false;

  constructor(
    readonly path: string,
    readonly number: number,
    readonly keys: readonly ChainKey[],
  ) {}

  take(line: AuditLine): void {
    const head = this.head === undefined ? this.#header(line) : this.#record(line, this.head);
    if (head === undefined) {
      this.tail = line.bytes.length;
      return;
    }
    this.head = head;
    this.size += line.bytes.length + (line.isTerminated ? 1 : 0);
    this.lacksLineFeed = !line.isTerminated;
  }

  #header({ bytes, isTerminated }: AuditLine): ChainHead | undefined {
    const header = parseFileHeader(bytes);
    const key = this.keys.find(({ id }) => id === header?.keyId);
    if (header !== undefined && key === undefined) {
      throw new AuditLogDamagedError(
        this.path,
        `was written with the key ${header.keyId}, which is not the one given (${this.keys.map(({ id }) => id).join(', ')})`,
      );
    }
    if (header === undefined || key?.verifies(bytes) !== true) {
      if (!isTerminated && isBeginningOfHeader(bytes)) return undefined;
      throw new AuditLogDamagedError(this.path, 'does not begin with a header of this log');
    }
    if (header.origin !== key.origin || header.file !== this.number) {
      throw new AuditLogDamagedError(this.path, `is file ${header.file} of the log ${header.origin}`);
    }
    if (header.first === 1 && header.previous !== emptyChain(key).mac && this.keys.length === 1) {
      throw new AuditLogDamagedError(this.path, 'does not begin where a log begins');
    }
    this.begun = Date.parse(/"time":"([^"]+)"/.exec(bytes.toString('utf8'))?.[1] ?? '');
    return { sequence: header.first - 1, mac: header.previous, tree: header.tree };
  }

  #record({ bytes, isTerminated, line }: AuditLine, head: ChainHead): ChainHead | undefined {
    const record = parseRecord(bytes);
    const key = this.keys.find(({ id }) => id === record?.keyId);
    const fits = record?.sequence === head.sequence + 1 && record.previous === head.mac;
    if (record !== undefined && fits && key?.verifies(bytes) === true) {
      return { sequence: record.sequence, mac: record.mac, tree: appendLeaf(head.tree, bytes) };
    }
    if (!isTerminated && isTornTail(bytes, head.sequence + 1)) return undefined;
    throw new AuditLogDamagedError(
      this.path,
      `was changed: line ${line} of ${basename(this.path)} is not the record ${head.sequence + 1} that was written there`,
    );
  }
}
