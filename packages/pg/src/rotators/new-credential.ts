import { pause, type Clock, type DatabaseCredentials } from '@nestjs-secrets/core';
import { PostgresTargetError } from './postgres-target-errors.js';
import type { TargetSession } from './postgres-target.js';
import { isRefusal } from './postgres-target.js';
import type { PostgresRotatorSetup } from './rotator-options.js';

const BETWEEN_REPLICA_ATTEMPTS_MS = 100;

/**
 * Proves that a new credential opens the primary and every standby, and that the user's probes pass under it. `also` runs on the primary's
 * connection.
 * @throws PostgresTargetError `TARGET_REFUSED` when the primary refuses it, or a standby still does after the time it is given to catch up.
 */
export async function proveUsable(
  setup: PostgresRotatorSetup,
  credentials: DatabaseCredentials,
  context: { readonly clock: Clock; readonly signal: AbortSignal },
  also: (session: TargetSession) => Promise<void> = async () => undefined,
): Promise<void> {
  await setup.primary.session(credentials, 'logging in with the new credential', context.signal, async (session) => {
    await also(session);
    // Probes run as the application would: with the role's own search_path, which the first statement of a session overrides.
    if (setup.probes.length > 0) await session.run(['RESET search_path']);
    for (const probe of setup.probes) await probe(session.client);
  });
  for (const replica of setup.replicas) {
    const deadline = context.clock.now() + setup.replicaLagLimitMs;
    while (!(await replica.logsIn(credentials, 'logging in with the new credential', context.signal))) {
      if (context.clock.now() >= deadline) {
        throw new PostgresTargetError(
          'TARGET_REFUSED',
          `Standby ${replica.label} still refuses the new credential of role ${JSON.stringify(credentials.username)} after ${setup.replicaLagLimitMs} ms. Check its replication lag and pg_hba.conf.`,
        );
      }
      await pause(context.clock, BETWEEN_REPLICA_ATTEMPTS_MS, context.signal);
      context.signal.throwIfAborted();
    }
  }
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
