/** What `verifyAudit` can find. */
export type AuditFindingKind =
  /** A record's bytes are not those that were written. */
  | 'edited'
  /** Records are missing between two that are there. */
  | 'deleted'
  /** A line that this log never wrote. */
  | 'inserted'
  /** A record stands there a second time. */
  | 'duplicated'
  /** A record stands somewhere else than where it was written. */
  | 'reordered'
  /** Genuine by its MAC, but it does not follow upon the record before it: the log was continued from two places, or rewritten by someone with the key. */
  | 'forked'
  /** Checkpoints speak of records at the end that are gone. */
  | 'truncated'
  /** A file between the first and the last, or the first, is missing. */
  | 'file-missing'
  /** The first line of a file is not the header that was written. */
  | 'header-edited'
  /** Made with a key that was not given. */
  | 'key-changed'
  /** A checkpoint's root is not that of the records. */
  | 'checkpoint-mismatch'
  /** A text among the checkpoints that is none of this log, or not signed with the key given. */
  | 'checkpoint-invalid'
  /** Checkpoints are numbered, and some are missing. */
  | 'checkpoint-missing'
  /** A place lacks the last checkpoints that another has: it was not reached yet, or they were removed. */
  | 'checkpoint-behind'
  /** The last line is the beginning of a record: the process died while it wrote, or writes just now. `AuditLog.open` repairs it. */
  | 'torn-tail'
  /** A record was made earlier, going by the clock, than the one before it. */
  | 'clock-back';

/** One thing that is not as it should be. */
export interface AuditFinding {
  readonly kind: AuditFindingKind;
  /** `tampering` is nothing this library does or leaves behind; the others have innocent causes, which the kind tells. */
  readonly severity: 'tampering' | 'torn' | 'warning';
  /** The file, or the place of checkpoints. */
  readonly file: string;
  /** In that file, from 1; for checkpoints, the number of the note. */
  readonly line: number;
  /** The record concerned, as far as it is known; for an inserted line the one it stands behind. */
  readonly sequence?: number;
  /** The last one concerned, where it is a range. */
  readonly through?: number;
  readonly message: string;
}

const SEVERITIES: Readonly<Partial<Record<AuditFindingKind, AuditFinding['severity']>>> = {
  'torn-tail': 'torn',
  'clock-back': 'warning',
  'checkpoint-behind': 'warning',
};

/** Collects findings: counts all, keeps the first of them. */
export class AuditFindings {
  readonly kept: AuditFinding[] = [];
  readonly counts: Partial<Record<AuditFindingKind, number>> = {};
  /** Of the tampering, or else of what is torn, the one with the lowest sequence number: a gap, say, is certain only once everything behind it was read. */
  first: AuditFinding | undefined;

  constructor(private readonly limit: number) {}

  add(finding: Omit<AuditFinding, 'severity'>): void {
    const severity = SEVERITIES[finding.kind] ?? 'tampering';
    this.counts[finding.kind] = (this.counts[finding.kind] ?? 0) + 1;
    if (this.kept.length < this.limit) this.kept.push({ ...finding, severity });
    if (severity === 'warning') return;
    if (this.first === undefined || isBefore({ ...finding, severity }, this.first))
      this.first = { ...finding, severity };
  }

  get hasTampering(): boolean {
    return Object.keys(this.counts).some((kind) => !(kind in SEVERITIES));
  }

  get isTorn(): boolean {
    return 'torn-tail' in this.counts;
  }
}

function isBefore(one: AuditFinding, other: AuditFinding): boolean {
  if (one.severity !== other.severity) return one.severity === 'tampering';
  return (one.sequence ?? Number.POSITIVE_INFINITY) < (other.sequence ?? Number.POSITIVE_INFINITY);
}
