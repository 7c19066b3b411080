import { identifier, literal } from './sql-quoting.js';
import type { DatabaseCredentials, RetireReport } from '@nestjs-secrets/core';
import { PostgresTargetError } from './postgres-target-errors.js';
import type { PostgresTarget, StepContext, TargetSession } from './postgres-target.js';

// 10 s in all: a backend ends at its next interrupt check, which is milliseconds away unless the server is in trouble.
const LOOKS = 40;
const WAIT_PER_LOOK_MS = 250;
const MOST_AWAITED = 20;

/**
 * Ends the sessions of an old credential and proves it dead: first the sessions, then a real log-in attempt that must be refused, then
 * another look, since a log-in that was half-way through before the credential died only shows afterwards.
 *
 * `sessions` is a condition on `pg_stat_activity` that is true for the sessions of the old credential, and for no other.
 *
 * @throws PostgresTargetError `OLD_CREDENTIAL_ALIVE` when the old value logs in, `SESSIONS_LEFT` when sessions do not end within 10 s,
 *   `TARGET_UNREACHABLE` or `TARGET_FAILED` when the attempt was answered by anything but a refusal, which proves nothing.
 */
export async function proveDead(
  target: PostgresTarget,
  session: TargetSession,
  old: DatabaseCredentials,
  sessions: string,
  context: StepContext,
  killing: readonly string[] = [],
): Promise<RetireReport> {
  const ended = new Set<number>();
  if (killing.length > 0) await session.change(killing);
  await endSessions(target, session, sessions, context, ended);
  if (await target.logsIn(old, 'checking that the old credential is refused', context)) {
    throw new PostgresTargetError(
      'OLD_CREDENTIAL_ALIVE',
      `PostgreSQL ${target.label} still accepts the old credential of role ${JSON.stringify(old.username)}. Look for "trust" in pg_hba.conf, and for whoever else sets this password.`,
    );
  }
  await endSessions(target, session, sessions, context, ended);
  return { refused: true, sessionsEnded: ended.size, sessionsLeft: 0 };
}

async function endSessions(
  target: PostgresTarget,
  session: TargetSession,
  condition: string,
  context: StepContext,
  ended: Set<number>,
): Promise<void> {
  const others = `pid <> pg_backend_pid() AND (${condition})`;
  for (let look = 0; look < LOOKS; look += 1) {
    context.signal.throwIfAborted();
    // The server waits for the first of them; those that follow are signalled by the next look at the latest.
    const wait = look === 0 ? '' : `, ${WAIT_PER_LOOK_MS}`;
    const found = (await session.run([`SELECT pid FROM pg_stat_activity WHERE ${others}`])).at(-1)?.rows as {
      pid: number;
    }[];
    if (found.length === 0) return;
    for (const { pid } of found) ended.add(pid);
    // No more than can be waited for within the time a statement has.
    const pids = found.slice(0, look === 0 ? found.length : MOST_AWAITED).map(({ pid }) => pid);
    await session.change([
      `SELECT pg_terminate_backend(pid${wait}) FROM pg_stat_activity WHERE ${others} AND pid IN (${pids.join(', ')})`,
    ]);
  }
  throw new PostgresTargetError(
    'SESSIONS_LEFT',
    `PostgreSQL ${target.label}: sessions of an old credential did not end within ${(LOOKS * WAIT_PER_LOOK_MS) / 1000} s. Their process ids: ${[...ended].join(', ')}.`,
  );
}

/** Takes a role out of use for good: no log-in, no password. */
export function disableRole(role: string): string {
  return `ALTER ROLE ${identifier(role)} NOLOGIN PASSWORD NULL`;
}

/** Every session a role opened, also one that has since `SET ROLE`. */
export function sessionsOf(role: string): string {
  return `usename = ${literal(role)}`;
}
