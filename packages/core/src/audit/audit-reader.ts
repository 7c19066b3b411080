/** One line of a log as it is stored. */
export interface AuditLine {
  /** The name of the file, or of what else holds it. */
  readonly file: string;
  /** In that file, from 1. From the end backwards it is not known: 0. */
  readonly line: number;
  readonly bytes: Buffer;
  /** False for a last line without a line feed. */
  readonly isTerminated: boolean;
}

/** Reads what a sink has stored, unchecked, in portions. Works while the log is being written. */
export interface AuditReader {
  readonly name: string;
  /** Oldest first. With `after`, may leave out what is sure to come before the record behind that sequence number. */
  lines(after?: number): AsyncIterable<readonly AuditLine[]>;
  /** Newest first. With `before`, may leave out what is sure to come after the record in front of that sequence number. */
  linesBackwards(before?: number): AsyncIterable<readonly AuditLine[]>;
}
