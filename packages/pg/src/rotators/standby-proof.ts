import { pause, type DatabaseCredentials } from '@nestjs-secrets/core';
import { PostgresTargetError } from './postgres-target-errors.js';
import { isRefusal, type PostgresTarget, type StepContext, type TargetSession } from './postgres-target.js';
import { literal } from './sql-quoting.js';

const BETWEEN_LOOKS_MS = 100;

/** Up to where the primary has written its log; undefined on a server that only replays one. */
export async function writtenUpTo(session: TargetSession): Promise<string | undefined> {
  const [answer] = await session.run([
    'SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END AS lsn',
  ]);
  return answer?.rows[0]?.lsn ?? undefined;
}

interface Replay {
  /** False for a server that is no physical standby: what it has replayed says nothing then. */
  readonly standby: boolean;
  readonly reached: boolean;
  readonly replayed: string | null;
  readonly paused: boolean;
}

export interface StandbyProof {
  readonly standby: PostgresTarget;
  readonly credentials: DatabaseCredentials;
  /** Log in where the new credential is refused, to see why. */
  readonly others: readonly DatabaseCredentials[];
  /** What the standby must have replayed: all that the primary had written when the new credential worked there. */
  readonly written: string | undefined;
  /** How long it may take, in milliseconds, and when that ends. */
  readonly limitMs: number;
  readonly deadline: number;
  /** Run as the new credential once all is replayed. */
  readonly probe: (session: TargetSession) => Promise<void>;
}

/**
 * Waits until a standby has replayed what the primary had written, and proves the new credential there.
 * @throws PostgresTargetError `STANDBY_BEHIND` when it has not replayed that in time, `TARGET_REFUSED` when it has and still refuses.
 */
export async function proveOnStandby(proof: StandbyProof, context: StepContext): Promise<void> {
  const { standby, credentials, probe } = proof;
  const doing = 'logging in with the new credential';
  for (;;) {
    let replay: Replay | undefined;
    try {
      replay = await standby.session(credentials, doing, context, async (session) => {
        const state = await whenReplayed(session, proof, context);
        if (state.reached) await probe(session);
        return state;
      });
      if (replay.reached) return;
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    if (context.clock.now() >= proof.deadline) throw failure(proof, replay ?? (await seenByOthers(proof, context)));
    await pause(context.clock, BETWEEN_LOOKS_MS, context.signal);
    context.signal.throwIfAborted();
  }
}

/** The state of the replay when it has come far enough, or at the deadline. */
async function whenReplayed(session: TargetSession, proof: StandbyProof, context: StepContext): Promise<Replay> {
  for (;;) {
    const state = await replayOf(session, proof.written);
    if (state.reached || context.clock.now() >= proof.deadline) return state;
    await pause(context.clock, BETWEEN_LOOKS_MS, context.signal);
    context.signal.throwIfAborted();
  }
}

async function replayOf(session: TargetSession, written: string | undefined): Promise<Replay> {
  const reached = written === undefined ? 'true' : `pg_last_wal_replay_lsn() >= ${literal(written)}::pg_lsn`;
  const [answer] = await session.run([
    `SELECT pg_is_in_recovery() AS standby, pg_last_wal_replay_lsn()::text AS replayed,
      NOT pg_is_in_recovery() OR coalesce(${reached}, true) AS reached,
      CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END AS paused`,
  ]);
  return answer?.rows[0] as Replay;
}

async function seenByOthers(
  { standby, others, written }: StandbyProof,
  context: StepContext,
): Promise<Replay | undefined> {
  for (const credentials of others) {
    try {
      return await standby.session(credentials, 'looking how far it lags', context, (session) =>
        replayOf(session, written),
      );
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }
  return undefined;
}

function failure(
  { standby, credentials, written, limitMs }: StandbyProof,
  replay: Replay | undefined,
): PostgresTargetError {
  const role = JSON.stringify(credentials.username);
  if (replay !== undefined && !replay.reached) {
    const why = replay.paused
      ? 'Its replay is paused: resume it with pg_wal_replay_resume().'
      : 'Look at pg_stat_replication on the primary, or allow it more time with `replicaLagLimitMs`.';
    return new PostgresTargetError(
      'STANDBY_BEHIND',
      `Standby ${standby.label} has replayed up to ${replay.replayed ?? 'nothing'} and not to ${written ?? ''}, where role ${role} is ready, within ${limitMs} ms. ${why}`,
    );
  }
  const lag = replay?.standby === true ? 'though it has replayed all of it: check' : 'check its replication lag and';
  return new PostgresTargetError(
    'TARGET_REFUSED',
    `Standby ${standby.label} still refuses the new credential of role ${role} after ${limitMs} ms: ${lag} pg_hba.conf.`,
  );
}
