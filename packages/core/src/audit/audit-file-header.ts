import type { ChainHead, ChainKey } from './audit-chain.js';
import { type MerkleTree, parseTree, printTree } from './merkle-tree.js';

/** The first line of each file: who wrote it and what it goes on from, so that it can be checked by itself once older files are archived. */
export interface AuditFileHeader {
  readonly origin: string;
  /** Number of the file, from 1. */
  readonly file: number;
  /** Sequence number of its first record. */
  readonly first: number;
  /** The tree of all records in the files before. */
  readonly tree: MerkleTree;
  readonly keyId: string;
  /** MAC of the last record in the files before. */
  readonly previous: string;
}

const START = '{"audit":1,';

/** `{"audit":1,"origin":…,"file":…,"first":…,"tree":[…],"time":…,"key":…,"prev":…,"mac":…}`, without its line feed */
export function sealFileHeader(key: ChainKey, file: number, head: ChainHead, iso: string): string {
  const tree = JSON.stringify(printTree(head.tree));
  const { framed } = key.seal(
    `${START}"origin":"${key.origin}","file":${file},"first":${head.sequence + 1},"tree":${tree},"time":"${iso}","key":"${key.id}","prev":"${head.mac}"`,
  );
  return framed.toString('utf8', 1, framed.length - 1);
}

/** Whether the line claims to be a header; nothing of it is proven yet. */
export function isFileHeader(line: Buffer): boolean {
  return line.toString('latin1', 0, START.length) === START;
}

/** Takes a header apart; undefined when it does not have the form of one. */
export function parseFileHeader(line: Buffer): AuditFileHeader | undefined {
  let parsed: Record<string, unknown>;
  try {
    parsed = { ...JSON.parse(line.toString('utf8')) };
  } catch {
    return undefined;
  }
  const { origin, file, first, tree, key, prev } = parsed;
  if (typeof origin !== 'string' || typeof key !== 'string' || typeof prev !== 'string') return undefined;
  if (!isCount(file) || !isCount(first) || !Array.isArray(tree)) return undefined;
  const before = parseTree(first - 1, tree.map(String));
  return before && { origin, file, first, tree: before, keyId: key, previous: prev };
}

/** Whether these bytes can be a header that was cut short while it was written. */
export function isBeginningOfHeader(bytes: Buffer): boolean {
  const start = bytes.toString('latin1', 0, START.length);
  return START.startsWith(start);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
}

export function auditFileName(file: number): string {
  return `audit-${String(file).padStart(8, '0')}.jsonl`;
}

/** The number in a file's name; undefined for what is not ours. */
export function auditFileNumber(name: string): number | undefined {
  const digits = /^audit-(\d{8,15})\.jsonl$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
