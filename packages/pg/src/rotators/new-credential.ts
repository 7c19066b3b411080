import type { DatabaseCredentials, SecretVersion } from '@nestjs-secrets/core';
import type { PostgresTargetError } from './postgres-target-errors.js';
import { isRefusal, type StepContext, type TargetSession } from './postgres-target.js';
import type { PostgresRotatorSetup, ProbedServer } from './rotator-options.js';
import { proveOnStandby, writtenUpTo } from './standby-proof.js';

/**
 * Proves that a new credential opens the primary and every standby, each once it has replayed what the primary had written by then, and that
 * the user's probes pass under it on all of them. `also` runs on the primary's connection.
 * @throws PostgresTargetError `TARGET_REFUSED` when a server refuses it, `STANDBY_BEHIND` when a standby does not catch up in time.
 */
export async function proveUsable(
  setup: PostgresRotatorSetup,
  credentials: DatabaseCredentials,
  context: StepContext & { readonly current: SecretVersion<DatabaseCredentials> | undefined },
  also: (session: TargetSession) => Promise<void> = async () => undefined,
): Promise<void> {
  const doing = 'logging in with the new credential';
  const written = await setup.primary.session(credentials, doing, context, async (session) => {
    await also(session);
    const lsn = await writtenUpTo(session);
    await runProbes(setup, session, 'primary');
    return lsn;
  });
  const deadline = context.clock.now() + setup.replicaLagLimitMs;
  for (const standby of setup.replicas) {
    await proveOnStandby(
      {
        standby,
        credentials,
        others: context.current === undefined ? [] : [context.current.value],
        written,
        limitMs: setup.replicaLagLimitMs,
        deadline,
        probe: (session) => runProbes(setup, session, 'replica'),
      },
      context,
    );
  }
}

/** As the application would run them: with the role's own settings, which a session of ours begins by overriding. */
async function runProbes(setup: PostgresRotatorSetup, session: TargetSession, server: ProbedServer): Promise<void> {
  if (setup.probes.length === 0) return;
  await session.run(['RESET ALL']);
  for (const probe of setup.probes) await probe(session.client, server);
}

/** Runs `work` as the first of these credentials that the server does not refuse. */
export async function firstThatLogsIn<R>(
  candidates: readonly DatabaseCredentials[],
  open: (credentials: DatabaseCredentials) => Promise<R>,
  none: PostgresTargetError,
): Promise<R> {
  for (const candidate of candidates) {
    try {
      return await open(candidate);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }
  throw none;
}
