import { type DynamicModule, Module } from '@nestjs/common';
import {
  type DatabaseCredentials,
  defineSecret,
  localKeyFile,
  type RotationContext,
  SecretsModule,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { type PostgresRotator, postgresAlternatingUsers } from '@nestjs-secrets/pg';
import type { CrashPoints } from '../crash/crash-points.js';
import { crashingRotator } from '../crash/crashing-parts.js';
import { BASE_NAME, CREDENTIALS, type FleetOrder } from './fleet-order.js';
import { fleetStoreAt } from './fleet-store.js';
import { moment } from './moment.js';
import type { ProcessLog } from './process-log.js';

export const ROTATOR = 'postgres/alternating-users';

/** Makes the table of the load, and gives it to the application. */
async function prepare(client: { query(sql: string): Promise<unknown> }, ownerRole: string): Promise<void> {
  await client.query(
    `CREATE TABLE IF NOT EXISTS payments (id bigserial PRIMARY KEY, process text NOT NULL, amount int)`,
  );
  await client.query(`GRANT SELECT, INSERT, UPDATE ON payments TO ${ownerRole}`);
  await client.query(`GRANT USAGE ON SEQUENCE payments_id_seq TO ${ownerRole}`);
}

/** The rotator, with a line in the log right before each statement that changes the target. */
function loggedRotator(rotator: PostgresRotator, log: ProcessLog): PostgresRotator {
  const logged = <C extends RotationContext>(context: C): C => ({
    ...context,
    assertHolder: () => {
      context.assertHolder();
      log.act(moment());
    },
  });
  return {
    name: rotator.name,
    strategy: rotator.strategy,
    identities: rotator.identities && (() => rotator.identities?.() ?? []),
    identityOf: rotator.identityOf && ((value) => rotator.identityOf?.(value) ?? ''),
    create: (context) => rotator.create(context),
    apply: (context) => rotator.apply(logged(context)),
    verify: (context) => rotator.verify(logged(context)),
    retire: (context) => rotator.retire(logged(context)),
    undo: (context) => rotator.undo?.(logged(context)),
  };
}

/** A crash point on each side of each commit that changes a journal together with its secret: the new version, promotion, both ends of retirement. */
function crashingStore(store: StoreDriver, points: CrashPoints): StoreDriver {
  return {
    name: store.name,
    open: () => store.open(),
    close: () => store.close(),
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
    commit: (commit) => {
      const isJoint = ['rotation/', 'secret/'].every((prefix) =>
        commit.writes.some(({ key }) => key.startsWith(prefix)),
      );
      return isJoint ? points.around('joint commit', () => store.commit(commit)) : store.commit(commit);
    },
  };
}

export interface FleetAppParts {
  readonly log: ProcessLog;
  readonly points: CrashPoints;
  admin(): DatabaseCredentials;
}

/** One process of the fleet, as a team would write it. */
@Module({})
export class FleetApp {
  static with(order: FleetOrder, { log, points, admin }: FleetAppParts): DynamicModule {
    const rotator = postgresAlternatingUsers({
      name: ROTATOR,
      connection: { ...order.rotatorTarget, database: order.target.database },
      admin,
      baseName: BASE_NAME,
      roles: order.roles,
      prepare,
    });
    const { every, probation, maxFailures } = order;
    const credentials = defineSecret<DatabaseCredentials>(CREDENTIALS, undefined, {
      initial: 'rotator',
      rotation: {
        rotator: ROTATOR,
        maxFailures,
        ...(every === undefined ? {} : { schedule: { every } }),
        ...(probation === undefined ? {} : { probation }),
      },
    });
    return {
      module: FleetApp,
      imports: [
        SecretsModule.forRoot({
          store: crashingStore(fleetStoreAt(order.store, order.name, order.answerWithinMs), points),
          keys: localKeyFile({ path: order.keys }),
          rotators: [crashingRotator(loggedRotator(rotator, log), points, () => false)],
          instance: { leaseMs: order.leaseMs },
          bootTimeoutMs: 30_000,
        }),
        SecretsModule.forFeature([credentials]),
      ],
    };
  }
}
