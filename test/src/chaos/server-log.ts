/** A transaction of a rotation's administrator, as the server ran it; milliseconds since the epoch. */
interface Transaction {
  readonly user: string;
  readonly begunAt: number;
  readonly endedAt: number;
}

// log_line_prefix = '%n|%u|%p|', and the administrators' statements with their durations.
const DURATION = /^(\d+\.\d+)\|(rotator_\d+)\|\d+\|LOG:\s+duration: (\d+\.\d+) ms\s+statement: BEGIN/;

/** Pairs of transactions in which two processes changed the target at one time, by the target's own log. */
export function overlappingChanges(log: string): string[] {
  const transactions: Transaction[] = [];
  for (const line of log.split('\n')) {
    const [, endedAt, user, duration] = DURATION.exec(line) ?? [];
    if (endedAt === undefined || user === undefined) continue;
    const end = Number(endedAt) * 1000;
    transactions.push({ user, begunAt: end - Number(duration), endedAt: end });
  }
  transactions.sort((one, other) => one.begunAt - other.begunAt);
  const overlapping: string[] = [];
  let latest: Transaction | undefined;
  for (const next of transactions) {
    if (latest !== undefined && latest.user !== next.user && next.begunAt < latest.endedAt)
      overlapping.push(`${next.user} at ${next.begunAt} while ${latest.user} went on until ${latest.endedAt}`);
    if (latest === undefined || next.endedAt > latest.endedAt) latest = next;
  }
  return overlapping;
}
