import { isSecretsError, pause, type DatabaseCredentials, type RetireReport } from '@nestjs-secrets/core';
import { sqlTokens } from './sql-tokens.js';
import { MysqlTargetError } from './mysql-target-errors.js';
import type { MysqlTarget, StepHold, TargetSession } from './mysql-target.js';
import { literal } from './sql-quoting.js';
import { readUser } from './user-profile.js';

// 10 s in all: a session ends at its next check, which is milliseconds away unless it rolls back much or the server is in trouble.
const LOOKS = 200;
const BETWEEN_LOOKS_MS = 50;

const NO_SUCH_THREAD = 1094;

export interface OldSessions {
  readonly user: string;
  /** The highest id that a session of the old credential can have; every session of the user's without it. */
  readonly upTo?: number;
}

export interface Death {
  readonly target: MysqlTarget;
  readonly session: TargetSession;
  readonly old: DatabaseCredentials;
  readonly sessions: OldSessions;
  readonly hold: StepHold;
}

/**
 * Ends the sessions of an old credential and proves it dead: first the sessions, then a real log-in attempt that must be refused, then
 * another look, since a log-in that was half-way through before the credential died only shows afterwards.
 *
 * @throws MysqlTargetError `OLD_CREDENTIAL_ALIVE` when the old value logs in, `SESSIONS_LEFT` when sessions do not end within 10 s,
 *   `TARGET_UNREACHABLE` or `TARGET_FAILED` when the attempt was answered by anything but a refusal, which proves nothing.
 */
export async function proveDead(death: Death): Promise<RetireReport> {
  const { target, old, hold } = death;
  const ended = new Set<number>();
  await endSessions(death, ended);
  if (await target.logsIn(old, 'checking that the old credential is refused', hold)) throw alive(target, old);
  await endSessions(death, ended);
  return { refused: true, sessionsEnded: ended.size, sessionsLeft: 0 };
}

export function alive(target: MysqlTarget, { username }: DatabaseCredentials): MysqlTargetError {
  return new MysqlTargetError(
    'OLD_CREDENTIAL_ALIVE',
    `Server ${target.label} still accepts the old credential of user ${JSON.stringify(username)}. Look for an anonymous or second account of this name, and for whoever else sets this password.`,
  );
}

/** Takes every account of a user out of use, and proves it. The accounts stay: views, routines, triggers and events go on running in their names. */
export async function putToRest(
  target: MysqlTarget,
  session: TargetSession,
  old: DatabaseCredentials,
  hold: StepHold,
): Promise<RetireReport> {
  await checkSeesSessions(session, target);
  for (const { account } of await readUser(session, old.username))
    await session.change(session.dialect.disable(account));
  return proveDead({ target, session, old, sessions: { user: old.username }, hold });
}

async function endSessions({ target, session, sessions, hold }: Death, ended: Set<number>): Promise<void> {
  for (let look = 0; look < LOOKS; look += 1) {
    hold.signal.throwIfAborted();
    if (look > 0) await pause(hold.clock, BETWEEN_LOOKS_MS, hold.signal);
    const found = await sessionsOf(session, sessions);
    if (found.length === 0) return;
    for (const id of found) {
      try {
        await session.change(`KILL CONNECTION ${id}`);
      } catch (error) {
        // Gone by itself.
        if (isSecretsError(error, 'TARGET_FAILED') && 'errno' in error && error.errno === NO_SUCH_THREAD) continue;
        throw error;
      }
      ended.add(id);
    }
  }
  throw new MysqlTargetError(
    'SESSIONS_LEFT',
    `Server ${target.label}: sessions of an old credential did not end within ${(LOOKS * BETWEEN_LOOKS_MS) / 1000} s. Their ids: ${[...ended].join(', ')}.`,
  );
}

async function sessionsOf(session: TargetSession, { user, upTo }: OldSessions): Promise<number[]> {
  const rows = await session.read<{ id: number | string; user: string }>(
    `SELECT ID AS id, USER AS user FROM information_schema.PROCESSLIST WHERE USER = ${literal(user)} AND ID <> CONNECTION_ID()`,
  );
  // The server compares these names without case.
  return rows
    .filter((row) => row.user === user)
    .map((row) => Number(row.id))
    .filter((id) => upTo === undefined || id <= upTo);
}

/** Without PROCESS an administrator sees no sessions but its own, and would take none for proof. */
async function checkSeesSessions(session: TargetSession, target: MysqlTarget): Promise<void> {
  const rows = await session.read<Record<string, unknown>>('SHOW GRANTS');
  const sees = rows.some((row) => {
    const words = sqlTokens(String(Object.values(row)[0])).map(({ text }) => text);
    const on = words.indexOf('ON');
    return (
      words.slice(on, on + 4).join('') === 'ON*.*' &&
      words.slice(0, on).some((word) => word === 'PROCESS' || word === 'ALL')
    );
  });
  if (sees) return;
  throw new MysqlTargetError(
    'TARGET_DENIED',
    `Server ${target.label}: the administrator does not see other users' sessions. Grant it PROCESS ON *.*.`,
  );
}
