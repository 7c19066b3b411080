import type { RotationNotes } from '@nestjs-secrets/core';
import type { TargetSession } from './mysql-target.js';

/** A moment in the life of a server: every session that began before it has an id up to `lastSession`. */
export interface SessionMark {
  readonly lastSession: number;
  /** When the server started, in seconds since the epoch: ids begin again then. */
  readonly serverStart: number;
}

/**
 * The server numbers sessions in the order they connect, and tells how many there were (`Connections`). Neither product tells when a session
 * began.
 */
export async function markSessions(session: TargetSession): Promise<SessionMark> {
  const rows = await session.read<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('Connections', 'Uptime')",
  );
  const value = (name: string): number => Number(rows.find((row) => row.Variable_name === name)?.Value ?? 0);
  const [time] = await session.read<{ now: number | string }>('SELECT UNIX_TIMESTAMP() AS now');
  return { lastSession: value('Connections'), serverStart: Number(time?.now ?? 0) - value('Uptime') };
}

// Uptime and time are whole seconds, read one after the other.
const START_TOLERANCE_S = 5;

/**
 * The highest session id that an old credential can have, by what was noted when it was replaced; 0 when nothing was, or the server has
 * started anew since: no session can be told from those of the new credential then, and none is ended.
 */
export async function lastOldSession(session: TargetSession, notes: RotationNotes, names: string[]): Promise<number> {
  const last = names.map((name) => notes[name]).find((note) => typeof note === 'number');
  const start = notes['serverStart'];
  if (typeof last !== 'number' || typeof start !== 'number') return 0;
  const now = await markSessions(session);
  return Math.abs(now.serverStart - start) <= START_TOLERANCE_S ? last : 0;
}
