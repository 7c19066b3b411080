import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import {
  auditFolder,
  type AuditFindingKind,
  type AuditVerification,
  checkpointFile,
  verifyAudit,
} from '@nestjs-secrets/core';
import { ChainKey } from '../src/audit/audit-chain.js';
import { seededRandomness } from './seeded-randomness.js';
import { AuditWorld, KEY, ORIGIN, SIGNER } from './support/audit-world.js';
import { StoredLog } from './support/stored-log.js';

const TIMES = Number(process.env['AUDIT_TAMPERINGS'] ?? 250);
const intact = StoredLog.write();
const FILES = [...intact.files.keys()];
const A_FILE = 6;
const RECORDS = 24;

const verify = (log: StoredLog, options: Partial<Parameters<typeof verifyAudit>[0]> = {}): Promise<AuditVerification> =>
  verifyAudit({
    origin: ORIGIN,
    log: log.reader,
    keys: [KEY],
    checkpoints: { verifierKeys: [SIGNER.verifierKey], places: [log.place()] },
    ...options,
  });

const randomness = seededRandomness('tamperings');
const below = (limit: number): number => randomness.below(limit);
const fileOf = (sequence: number): string => FILES[Math.floor((sequence - 1) / A_FILE)] ?? '';
/** Index of a record among the lines of its file; the header is 0. */
const indexOf = (sequence: number): number => ((sequence - 1) % A_FILE) + 1;
const anyRecord = (): number => 1 + below(RECORDS);

function flipBit(bytes: Buffer, at: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[at] = (flipped[at] ?? 0) ^ (1 << below(8));
  return flipped;
}

/** The record a byte of a file belongs to; the first of the file for its header. */
function recordAt(file: string, offset: number): number {
  const before =
    (intact.files.get(file) ?? Buffer.alloc(0)).subarray(0, offset).toString('latin1').split('\n').length - 1;
  return FILES.indexOf(file) * A_FILE + Math.max(1, before);
}

function edited(): [StoredLog, number] {
  const file = FILES[below(FILES.length)] ?? '';
  const bytes = intact.files.get(file) ?? Buffer.alloc(0);
  const offset = below(bytes.length);
  const log = intact.copy();
  log.files.set(file, flipBit(bytes, offset));
  return [log, recordAt(file, offset)];
}

function deleted(): [StoredLog, number] {
  const sequence = anyRecord();
  const lines = intact.lines(fileOf(sequence));
  lines.splice(indexOf(sequence), 1 + below(3));
  return [intact.with(fileOf(sequence), lines), sequence];
}

function inserted(): [StoredLog, number] {
  const [behind, model] = [anyRecord(), anyRecord()];
  const lines = intact.lines(fileOf(behind));
  const line = intact.lines(fileOf(model))[indexOf(model)] ?? '';
  const forged =
    [line.replace('"says":"', '"says":"not '), '{"seq":', '', 'garbage', line.slice(0, -80)][below(5)] ?? '';
  lines.splice(indexOf(behind) + 1, 0, forged);
  return [intact.with(fileOf(behind), lines), behind];
}

function duplicated(): [StoredLog, number] {
  const sequence = anyRecord();
  const behind = sequence + below(RECORDS - sequence + 1);
  const lines = intact.lines(fileOf(behind));
  lines.splice(indexOf(behind) + 1, 0, intact.lines(fileOf(sequence))[indexOf(sequence)] ?? '');
  return [intact.with(fileOf(behind), lines), sequence];
}

function reordered(): [StoredLog, number] {
  const one = 1 + below(RECORDS - 1);
  const other = one + 1 + below(RECORDS - one);
  const lineOf = (sequence: number): string => intact.lines(fileOf(sequence))[indexOf(sequence)] ?? '';
  const put = (log: StoredLog, at: number, line: string): StoredLog =>
    log.with(fileOf(at), log.lines(fileOf(at)).with(indexOf(at), line));
  return [put(put(intact, one, lineOf(other)), other, lineOf(one)), one];
}

function truncated(): [StoredLog, number] {
  const last = FILES[below(FILES.length)] ?? '';
  const bytes = intact.files.get(last) ?? Buffer.alloc(0);
  // Without its line feed a record is still whole.
  const length = below(bytes.length - 1);
  const log = intact.copy();
  for (const file of FILES) if (file > last) log.files.delete(file);
  log.files.set(last, bytes.subarray(0, length));
  const wholeLines =
    bytes
      .subarray(0, length + 1)
      .toString('latin1')
      .split('\n').length - 1;
  return [log, FILES.indexOf(last) * A_FILE + Math.max(0, wholeLines - 1) + 1];
}

function withoutFile(): [StoredLog, number] {
  const index = below(FILES.length);
  const log = intact.copy();
  log.files.delete(FILES[index] ?? '');
  return [log, index * A_FILE + 1];
}

/** Somebody who has the key changes a record and makes everything behind it anew. */
function rewritten(): [StoredLog, number] {
  const from = anyRecord();
  const log = StoredLog.write({ says: (sequence) => (sequence === from ? 'something else' : String(sequence)) });
  return [new StoredLog(log.files, intact.notes), from];
}

/** Two histories of one log, such as before and after a restore from a backup. */
function forked(): [StoredLog, number] {
  const from = 2 + below(RECORDS - 1);
  const other = StoredLog.write({
    says: (sequence) => (sequence >= from - 1 ? `other ${sequence}` : String(sequence)),
  });
  const log = intact.copy();
  for (const [file, bytes] of other.files) {
    if (file < fileOf(from)) continue;
    const lines = [...intact.lines(file).slice(0, indexOf(from)), ...other.lines(file).slice(indexOf(from))];
    log.files.set(file, file === fileOf(from) ? Buffer.from(`${lines.join('\n')}\n`) : bytes);
  }
  return [log, from];
}

function underAnotherKey(): [StoredLog, number] {
  const from = anyRecord();
  const other = new ChainKey(Buffer.alloc(32, below(250)), `${ORIGIN}/other`);
  const log = StoredLog.write({ keyOf: (sequence) => (sequence >= from ? other : new ChainKey(KEY, ORIGIN)) });
  return [new StoredLog(log.files, intact.notes), from];
}

const TAMPERINGS: [string, () => [StoredLog, number], readonly AuditFindingKind[]][] = [
  ['edits of any bit', edited, []],
  ['deletions', deleted, ['deleted', 'truncated']],
  ['insertions', inserted, ['inserted']],
  ['duplications', duplicated, ['duplicated']],
  ['reorderings', reordered, ['reordered']],
  ['truncated tails', truncated, ['truncated', 'file-missing']],
  ['missing files', withoutFile, ['file-missing', 'truncated']],
  ['histories spliced together', forked, ['forked']],
  ['records under another key', underAnotherKey, ['key-changed']],
];

describe('verifyAudit', () => {
  it('finds nothing where nothing is', async () => {
    const result = await verify(intact);
    expect(result).toMatchObject({
      verdict: 'intact',
      findings: [],
      records: RECORDS,
      files: 4,
      coveredThrough: RECORDS,
      checkpoints: 2,
    });
  });

  it.each(TAMPERINGS)(`finds ${TIMES} random %s, each at its first bad event`, async (_what, tamper, kinds) => {
    const missed: unknown[] = [];
    for (let time = 0; time < TIMES; time += 1) {
      const [log, sequence] = tamper();
      const { verdict, first, counts } = await verify(log);
      const isKind = kinds.length === 0 || kinds.some((kind) => kind in counts);
      if (verdict !== 'tampered' || first?.sequence !== sequence || !isKind)
        missed.push({ sequence, verdict, first, counts });
    }
    expect(missed).toEqual([]);
  });

  it(`finds ${TIMES} histories rewritten with the key, going by the checkpoints`, async () => {
    for (let time = 0; time < TIMES; time += 1) {
      const [log, sequence] = rewritten();
      const { verdict, first } = await verify(log);
      expect({ verdict, kind: first?.kind }).toEqual({ verdict: 'tampered', kind: 'checkpoint-mismatch' });
      expect(first?.sequence).toBeLessThanOrEqual(sequence);
      expect(first?.through).toBeGreaterThanOrEqual(sequence);
    }
  });

  it(`finds ${TIMES} changed and missing checkpoints`, async () => {
    const { notes } = StoredLog.write({ recordsACheckpoint: 5 });
    const text = Buffer.from(notes.join(''));
    const world = await AuditWorld.create();
    const path = join(world.home, 'notes');
    for (let time = 0; time < TIMES; time += 1) {
      const index = below(notes.length);
      const gone = new StoredLog(intact.files, notes.toSpliced(index, 1));
      await writeFile(path, flipBit(text, below(text.length)));
      for (const place of [gone.place('robbed'), checkpointFile({ path })]) {
        const places = [place, new StoredLog(intact.files, notes).place('whole')];
        const { findings } = await verify(intact, { checkpoints: { verifierKeys: [SIGNER.verifierKey], places } });
        if (findings.length === 0) throw new Error(`missed at ${place.name}, ${index}`);
        expect(findings.every(({ kind }) => kind.startsWith('checkpoint-'))).toBe(true);
      }
    }
    await world.remove();
  });

  it('finds a clock that went back, which is no tampering', async () => {
    for (let time = 0; time < 200; time += 1) {
      const at = 2 + below(RECORDS - 1);
      const log = StoredLog.write({
        timeOf: (sequence) => Date.UTC(2026, 10, 25) + sequence * 1000 - (sequence >= at ? 3_600_000 : 0),
      });
      const { verdict, findings } = await verify(log);
      expect(verdict).toBe('intact');
      expect(findings).toMatchObject([{ kind: 'clock-back', severity: 'warning', sequence: at }]);
    }
  });

  it('tells a torn last line from tampering', async () => {
    const last = FILES.at(-1) ?? '';
    const bytes = intact.files.get(last) ?? Buffer.alloc(0);
    const next = StoredLog.write({ records: RECORDS + 1 }).files.get('audit-00000005.jsonl') ?? Buffer.alloc(0);
    const record = next.subarray(next.indexOf('\n') + 1);
    for (let length = 1; length < record.length; length += 1) {
      const log = intact.copy();
      log.files.set(last, Buffer.concat([bytes, record.subarray(0, length), Buffer.alloc(below(2) * below(5000))]));
      const { verdict, first } = await verify(log);
      const isTorn = { verdict: 'torn-tail', kind: 'torn-tail', file: last, line: A_FILE + 2, sequence: RECORDS + 1 };
      expect({ verdict, ...first }).toMatchObject(isTorn);
    }
    for (const what of ['x', '{"seq":9', `${record.toString('latin1', 0, 30)}\n`]) {
      const log = intact.copy();
      log.files.set(last, Buffer.concat([bytes, Buffer.from(what)]));
      expect((await verify(log)).verdict).toBe('tampered');
    }
  });

  it('takes up where older files were archived, when told so', async () => {
    const log = intact.copy();
    log.files.delete(FILES[0] ?? '');
    log.files.delete(FILES[1] ?? '');
    expect(await verify(log, { isArchived: true })).toMatchObject({
      verdict: 'intact',
      range: { first: 13, last: 24 },
      coveredThrough: 24,
    });
  });

  it('reads real files of any size alike, tells how far it is, and keeps only so many findings', async () => {
    const world = await AuditWorld.create();
    await mkdir(world.folder);
    const log = StoredLog.write({
      records: 3000,
      recordsAFile: 1000,
      recordsACheckpoint: 500,
      says: (sequence) => 'ä'.repeat(sequence),
    });
    for (const [file, bytes] of log.files) await writeFile(join(world.folder, file), bytes);
    const progress: number[] = [];
    const onProgress = ({ records }: { records: number }): void => void progress.push(records);
    const reader = auditFolder(world.folder);
    expect(await verify(log, { log: reader, onProgress, progressEvery: 1000 })).toMatchObject({
      verdict: 'intact',
      records: 3000,
    });
    expect(progress).toEqual([999, 1998, 2997, 3000]);
    const other = await verify(log, { log: reader, keys: [Buffer.alloc(32, 9)], maxFindings: 10 });
    expect(other).toMatchObject({ verdict: 'tampered', first: { kind: 'key-changed', sequence: 1 } });
    expect(other.findings).toHaveLength(10);
    await world.remove();
  });
});
