import type { StoreCommit } from '@nestjs-secrets/core';

/** A row to put, or to remove when `value` is null. */
export interface RowWrite {
  readonly key: string;
  readonly value: Uint8Array | null;
  readonly revision: number;
}

export interface JudgedBatch {
  /** For each commit in turn its revision, or undefined when a condition did not hold. */
  readonly outcomes: readonly (number | undefined)[];
  /** What remains to be written when all commits are done, each key once. */
  readonly writes: readonly RowWrite[];
  readonly revision: number;
}

/**
 * Judges commits that share one transaction as if each had a transaction of its own, one after the other: a later one sees what an earlier
 * one wrote.
 */
export function judgeBatch(
  commits: readonly StoreCommit[],
  storeRevision: number,
  storedRevisionOf: (key: string) => number,
): JudgedBatch {
  const changed = new Map<string, RowWrite>();
  let revision = storeRevision;
  const revisionOf = (key: string): number => {
    const change = changed.get(key);
    if (change === undefined) return storedRevisionOf(key);
    return change.value === null ? 0 : change.revision;
  };
  const outcomes = commits.map((commit) => {
    if (!commit.conditions.every((condition) => revisionOf(condition.key) === condition.revision)) return undefined;
    if (commit.writes.length > 0) revision += 1;
    for (const { key, value } of commit.writes) changed.set(key, { key, value, revision });
    return revision;
  });
  return { outcomes, writes: [...changed.values()], revision };
}
