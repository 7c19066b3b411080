import type { FleetProcess, Freeze } from './fleet-process.js';
import type { FailedQuery } from './process-log.js';

/** All queries of a fleet, by what became of them. */
export interface QueryVerdict {
  readonly queries: number;
  readonly succeeded: number;
  /** Failed, and not excused. */
  readonly failed: readonly string[];
  /** In flight while their own process was stopped for longer than its lease: the server may have ended their session meanwhile. */
  readonly excused: number;
  /** Acknowledged writes, by the process that made them. */
  readonly writes: ReadonlyMap<string, number>;
}

/** Judges what the processes wrote down. Queries that began after a process woke up are never excused. */
export function judgeQueries(processes: readonly FleetProcess[], leaseMs: number): QueryVerdict {
  let [succeeded, excused] = [0, 0];
  const failed: string[] = [];
  const writes = new Map<string, number>();
  for (const process of processes) {
    const history = process.history();
    for (const count of history.succeeded.values()) succeeded += count;
    const written = ['insert', 'transaction', 'long transaction'].map((kind) => history.succeeded.get(kind) ?? 0);
    writes.set(
      process.name,
      written.reduce((sum, count) => sum + count, 0),
    );
    for (const query of history.failed) {
      if (process.freezes.some((freeze) => excuses(freeze, query, leaseMs))) excused += 1;
      else failed.push(describe(process, query));
    }
  }
  return { queries: succeeded + excused + failed.length, succeeded, failed, excused, writes };
}

function excuses({ begunAt, endedAt }: Freeze, query: FailedQuery, leaseMs: number): boolean {
  return endedAt - begunAt >= leaseMs && query.begunAt < begunAt && query.endedAt >= begunAt;
}

function describe(process: FleetProcess, { kind, begunAt, endedAt, reason }: FailedQuery): string {
  const woken = process.freezes.findLast((freeze) => freeze.endedAt <= endedAt)?.endedAt;
  const after = woken === undefined ? '' : `, ${(begunAt - woken).toFixed(0)} ms after waking`;
  return `${process.name}: ${kind} of ${begunAt.toFixed(0)} to ${endedAt.toFixed(0)}${after}: ${reason}`;
}
