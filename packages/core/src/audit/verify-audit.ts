import { type AuditKey, ChainKey, checkOrigin } from './audit-chain.js';
import { type AuditFinding, type AuditFindingKind, AuditFindings } from './audit-findings.js';
import type { AuditReader } from './audit-reader.js';
import { ChainWalk } from './chain-walk.js';
import { checkpointVerifier } from './checkpoint.js';
import type { CheckpointNotes } from './checkpoint-place.js';
import { CheckpointWalk } from './checkpoint-walk.js';

export interface VerifyAuditOptions {
  /** What the log is called. */
  readonly origin: string;
  /** `auditFolder(path)`, or the `reader` of a sink. */
  readonly log: AuditReader;
  /** Every key the log was made with. Without keys only checkpoints prove anything; see docs/audit.md. */
  readonly keys?: readonly AuditKey[];
  readonly checkpoints?: {
    /** The `verifierKey` of the signer, and those of earlier ones. */
    readonly verifierKeys: readonly string[];
    /** Each is held against the log by itself, and all against each other. */
    readonly places: readonly CheckpointNotes[];
  };
  /** True when older files were moved away on purpose: the log then begins with the first file there is. False by default. */
  readonly isArchived?: boolean;
  /** How far the clock may go back unreported, in milliseconds; 1000 by default, since clocks are corrected. */
  readonly clockToleranceMs?: number;
  /** How many findings to keep, 1–100,000; 100 by default. All are counted. */
  readonly maxFindings?: number;
  readonly onProgress?: (progress: AuditProgress) => void;
  /** Records between two calls of `onProgress`; 100,000 by default. */
  readonly progressEvery?: number;
}

export interface AuditProgress {
  readonly records: number;
  readonly bytes: number;
  readonly findings: number;
}

export interface AuditVerification {
  /** `torn-tail`: intact but for an unfinished last line, which `AuditLog.open` repairs. Warnings do not count. */
  readonly verdict: 'intact' | 'torn-tail' | 'tampered';
  /** Where it first goes wrong, warnings aside. */
  readonly first: AuditFinding | undefined;
  readonly findings: readonly AuditFinding[];
  /** How many of each kind, also of those not kept. */
  readonly counts: Readonly<Partial<Record<AuditFindingKind, number>>>;
  readonly records: number;
  readonly files: number;
  readonly bytes: number;
  /** Signed checkpoints of all places. */
  readonly checkpoints: number;
  /** Sequence numbers of the first and the last record; 0 when there is none. */
  readonly range: { readonly first: number; readonly last: number };
  /** Records up to this one are what a checkpoint was signed for. Behind it only the keyed chain speaks, and the end could have been cut off. */
  readonly coveredThrough: number;
}

/**
 * Reads a whole log, in constant memory, and says whether it is what was written: see `AuditFindingKind` for what it finds, docs/audit.md for what that
 * proves. Changes nothing. Reads a log that is in use as well.
 * @throws AuditOptionsError, CheckpointError for keys that are none; what reading threw
 */
export async function verifyAudit(options: VerifyAuditOptions): Promise<AuditVerification> {
  const { origin, log, keys, checkpoints, maxFindings = 100, progressEvery = 100_000, isArchived = false } = options;
  checkOrigin(origin);
  const findings = new AuditFindings(maxFindings);
  const verifiers = (checkpoints?.verifierKeys ?? []).map((line) => checkpointVerifier(line));
  const places = (checkpoints?.places ?? []).map(
    (place) => new CheckpointWalk(place, { origin, verifiers, findings, isArchived }),
  );
  for (const place of places) await place.begin();
  let reached: { sequence: number; root: () => Buffer; isSound: boolean } | undefined;
  const walk = new ChainWalk({
    keys: keys?.map((key) => new ChainKey(key, origin)),
    findings,
    clockToleranceMs: options.clockToleranceMs ?? 1000,
    isArchived,
    onRecord: (sequence, root, isSound) => {
      reached = { sequence, root, isSound };
    },
  });
  let bytes = 0;
  let lines = 0;
  for await (const portion of log.lines()) {
    for (const line of portion) {
      bytes += line.bytes.length + (line.isTerminated ? 1 : 0);
      reached = undefined;
      walk.take(line);
      if (reached !== undefined) {
        // Not inside the callback: checkpoints are read as they are needed, which takes a while.
        for (const place of places) if ((place.nextSize ?? Infinity) <= walk.last) await catchUp(place, reached);
      }
      lines += 1;
      if (lines % progressEvery === 0)
        options.onProgress?.({ records: walk.records, bytes, findings: findings.kept.length });
    }
  }
  for (const place of places) while (place.nextSize !== undefined) await place.advance();
  walk.end(Math.max(0, ...places.map(({ last }) => last.size)));
  endOfCheckpoints(places, walk, findings);
  options.onProgress?.({ records: walk.records, bytes, findings: findings.kept.length });
  return {
    verdict: findings.hasTampering ? 'tampered' : findings.isTorn ? 'torn-tail' : 'intact',
    first: findings.first,
    findings: findings.kept,
    counts: findings.counts,
    records: walk.records,
    files: walk.files,
    bytes,
    checkpoints: places.reduce((sum, { count }) => sum + count, 0),
    range: { first: walk.first, last: walk.last },
    coveredThrough: Math.max(0, ...places.map(({ covered }) => covered)),
  };
}

async function catchUp(
  place: CheckpointWalk,
  { sequence, root, isSound }: { sequence: number; root: () => Buffer; isSound: boolean },
): Promise<void> {
  for (let size = place.nextSize; size !== undefined && size <= sequence; size = place.nextSize) {
    if (size === sequence) place.compare(root(), isSound);
    await place.advance();
  }
}

function endOfCheckpoints(places: readonly CheckpointWalk[], walk: ChainWalk, findings: AuditFindings): void {
  const latest = places.reduce((most, { last }) => (last.number > most.number ? last : most), { number: 0, size: 0 });
  const longest = Math.max(0, ...places.map(({ last }) => last.size));
  if (longest > walk.last) {
    findings.add({
      kind: 'truncated',
      file: places.find(({ last }) => last.size === longest)?.name ?? '',
      line: 0,
      sequence: walk.last + 1,
      through: longest,
      message: `the log ends with record ${walk.last}, and a checkpoint was made of ${longest}`,
    });
  }
  for (const { name, last } of places) {
    if (last.number >= latest.number) continue;
    findings.add({
      kind: 'checkpoint-behind',
      file: name,
      line: 0,
      sequence: last.size,
      through: latest.size,
      message: `${name} ends with checkpoint ${last.number}, another place has ${latest.number}: it was not reached, or they were removed`,
    });
  }
}
