import { pause, type Clock, type DatabaseCredentials } from '@nestjs-secrets/core';
import { MysqlTargetError } from './mysql-target-errors.js';
import { isRefusal } from './mysql-target.js';
import type { MysqlRotatorSetup } from './rotator-options.js';

const BETWEEN_REPLICA_ATTEMPTS_MS = 100;

/**
 * Proves that a new credential opens the primary and every replica, with connections of its own, and that the user's probes pass under it on
 * all of them. The password is the last a user is given, and replicas apply in order: one that takes the log-in has the grants as well.
 * @throws MysqlTargetError `TARGET_REFUSED` when the primary refuses it, or a replica still does after the time it is given to catch up.
 */
export async function proveUsable(
  setup: MysqlRotatorSetup,
  credentials: DatabaseCredentials,
  context: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  const doing = 'logging in with the new credential';
  await setup.primary.asApplication(credentials, doing, context, async (client) => {
    for (const probe of setup.probes) await probe(client, 'primary');
  });
  const deadline = context.clock.now() + setup.replicaLagLimitMs;
  for (const replica of setup.replicas) {
    while (!(await replica.logsIn(credentials, doing, context))) {
      if (context.clock.now() >= deadline) {
        throw new MysqlTargetError(
          'TARGET_REFUSED',
          `Replica ${replica.label} still refuses the new credential of user ${JSON.stringify(credentials.username)} after ${setup.replicaLagLimitMs} ms. Check its replication lag, and that it replicates the mysql database.`,
        );
      }
      await pause(context.clock, BETWEEN_REPLICA_ATTEMPTS_MS, context.signal);
      context.signal.throwIfAborted();
    }
    await replica.asApplication(credentials, doing, context, async (client) => {
      for (const probe of setup.probes) await probe(client, 'replica');
    });
  }
}

/** Runs `work` as the first of these credentials that the server does not refuse. */
export async function firstThatLogsIn<R>(
  candidates: readonly DatabaseCredentials[],
  open: (credentials: DatabaseCredentials) => Promise<R>,
  none: MysqlTargetError,
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
