import { type FileHandle, open, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { parseRecord } from './audit-chain.js';
import { auditFileNumber, parseFileHeader } from './audit-file-header.js';
import type { AuditLine, AuditReader } from './audit-reader.js';

const FORWARD_BYTES = 262_144;
const BACKWARD_BYTES = 65_536;
/** No line of ours is longer. Of a longer one only so much is looked at, so that a file without line feeds takes no more memory than others. */
const LONGEST_LINE = 1_048_576;
const LINE_FEED = 10;
const HEADER_BYTES = 16_384;

/** The files of a folder in the order of their numbers. */
export async function auditFilesIn(folder: string): Promise<string[]> {
  const numbered = (await readdir(folder)).map((name) => ({ name, number: auditFileNumber(name) }));
  return numbered
    .filter(({ number }) => number !== undefined)
    .sort((one, other) => (one.number ?? 0) - (other.number ?? 0))
    .map(({ name }) => join(folder, name));
}

/** Reads the files that `auditFiles` wrote, also while another process is writing them, and files copied elsewhere. */
export function auditFolder(folder: string): AuditReader {
  return {
    name: folder,
    async *lines(after = 0) {
      const files = await auditFilesIn(folder);
      for (const path of files.slice(await firstOfInterest(files, after))) yield* fileLines(path);
    },
    async *linesBackwards(before = Number.POSITIVE_INFINITY) {
      for (const path of (await auditFilesIn(folder)).toReversed()) {
        // Whole files newer than what is asked for are passed over by their headers.
        if (before !== Number.POSITIVE_INFINITY && ((await firstSequence(path)) ?? 0) >= before) continue;
        yield* fileLinesBackwards(path);
      }
    },
  };
}

/** Index of the last file that begins at or before the record behind `after`. */
async function firstOfInterest(files: readonly string[], after: number): Promise<number> {
  if (after === 0) return 0;
  let low = 0;
  let high = files.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    const first = await firstSequence(files[middle] ?? '');
    if (first !== undefined && first <= after + 1) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}

async function firstSequence(path: string): Promise<number | undefined> {
  const file = await open(path, 'r');
  try {
    const bytes = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(bytes, 0, HEADER_BYTES, 0);
    const end = bytes.indexOf(LINE_FEED);
    return end === -1 ? undefined : parseFileHeader(bytes.subarray(0, Math.min(end, bytesRead)))?.first;
  } finally {
    await file.close();
  }
}

/** The lines of one file, oldest first. */
export async function* fileLines(path: string): AsyncIterable<readonly AuditLine[]> {
  const file = await open(path, 'r');
  const name = basename(path);
  let line = 0;
  let rest: Buffer = Buffer.alloc(0);
  let isSkipping = false;
  try {
    for (let position = 0; ;) {
      const chunk = Buffer.allocUnsafeSlow(FORWARD_BYTES);
      const { bytesRead } = await file.read(chunk, 0, FORWARD_BYTES, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      const bytes =
        rest.length === 0 ? chunk.subarray(0, bytesRead) : Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
      const lines: AuditLine[] = [];
      let start = 0;
      for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED, start)) {
        if (!isSkipping)
          lines.push({ file: name, line: (line += 1), bytes: bytes.subarray(start, end), isTerminated: true });
        isSkipping = false;
        start = end + 1;
      }
      rest = isSkipping ? Buffer.alloc(0) : bytes.subarray(start);
      if (rest.length > LONGEST_LINE) {
        lines.push({ file: name, line: (line += 1), bytes: rest.subarray(0, LONGEST_LINE), isTerminated: true });
        rest = Buffer.alloc(0);
        isSkipping = true;
      }
      if (lines.length > 0) yield lines;
    }
  } finally {
    await file.close();
  }
  if (rest.length > 0) yield [{ file: name, line: line + 1, bytes: rest, isTerminated: false }];
}

/** The lines of one file, newest first, without an unfinished last one. */
async function* fileLinesBackwards(path: string): AsyncIterable<readonly AuditLine[]> {
  const file = await open(path, 'r');
  const name = basename(path);
  try {
    let position = (await file.stat()).size;
    // Everything up to the last line feed; what stands behind it is not a line yet.
    let rest: Buffer | undefined;
    while (position > 0) {
      const length = Math.min(BACKWARD_BYTES, position);
      position -= length;
      let bytes = await readExactly(file, position, length);
      if (rest === undefined) {
        const end = bytes.lastIndexOf(LINE_FEED);
        if (end === -1) continue;
        bytes = bytes.subarray(0, end);
        rest = Buffer.alloc(0);
      }
      bytes = Buffer.concat([bytes, rest]);
      const lines: AuditLine[] = [];
      for (let start = bytes.lastIndexOf(LINE_FEED); start !== -1; start = bytes.lastIndexOf(LINE_FEED)) {
        lines.push({ file: name, line: 0, bytes: bytes.subarray(start + 1), isTerminated: true });
        bytes = bytes.subarray(0, start);
        // A negative offset would count from the end.
        if (start === 0) break;
      }
      rest = bytes.length > LONGEST_LINE ? bytes.subarray(bytes.length - LONGEST_LINE) : bytes;
      if (position === 0) lines.push({ file: name, line: 0, bytes: rest, isTerminated: true });
      if (lines.length > 0) yield lines;
    }
  } finally {
    await file.close();
  }
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/** The records of a reader behind a sequence number, in order, whatever else stands between them. */
export async function* recordsAfter(reader: AuditReader, after: number): AsyncIterable<readonly AuditLine[]> {
  for await (const lines of reader.lines(after)) {
    const records = lines.filter(
      ({ bytes, isTerminated }) => isTerminated && (parseRecord(bytes)?.sequence ?? 0) > after,
    );
    if (records.length > 0) yield records;
  }
}
