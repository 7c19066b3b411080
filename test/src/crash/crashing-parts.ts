import type { StoreCommit, StoreDriver } from '@nestjs-secrets/core';
import type { PostgresRotator } from '@nestjs-secrets/pg';
import pg from 'pg';
import type { CrashPoints } from './crash-points.js';
import { LEDGER } from './rotating-app.js';

/** The store with a crash point on each side of each commit; those of the ledger go on all the time and are no part of a rotation. */
export function crashingStore(store: StoreDriver, points: CrashPoints): StoreDriver {
  const isLedger = (commit: StoreCommit): boolean => commit.writes.some(({ key }) => key.includes(LEDGER));
  return {
    name: store.name,
    open: () => store.open(),
    close: () => store.close(),
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    revision: () => store.revision(),
    watch: (onHint) => store.watch(onHint),
    commit: (commit) => (isLedger(commit) ? store.commit(commit) : points.around('commit', () => store.commit(commit))),
  };
}

/** The rotator with a crash point on each side of each step. While `verifyFails`, its `verify` arms the points and throws instead. */
export function crashingRotator(
  rotator: PostgresRotator,
  points: CrashPoints,
  verifyFails: () => boolean,
): PostgresRotator {
  return {
    name: rotator.name,
    strategy: rotator.strategy,
    identities: rotator.identities && (() => rotator.identities?.() ?? []),
    identityOf: rotator.identityOf && ((value) => rotator.identityOf?.(value) ?? ''),
    create: (context) => points.around('create', () => rotator.create(context)),
    apply: (context) => points.around('apply', () => rotator.apply(context)),
    retire: (context) => points.around('retire', () => rotator.retire(context)),
    undo: (context) => points.around('undo', () => rotator.undo?.(context)),
    verify: async (context) => {
      if (!verifyFails()) return points.around('verify', () => rotator.verify(context));
      points.arm();
      throw new Error('a probe said no');
    },
  };
}

/** Puts a crash point on each side of every statement that rotators send, and of every connection a pool opens. */
export function crashAroundServerCalls(points: CrashPoints): void {
  const { query, connect } = pg.Client.prototype;
  const isRotator = (client: pg.Client): boolean => {
    const { connectionParameters } = client as unknown as { connectionParameters: { application_name?: string } };
    return connectionParameters.application_name === 'nestjs-secrets';
  };
  pg.Client.prototype.query = function around(this: pg.Client, ...args: unknown[]) {
    const call = (): unknown => Reflect.apply(query, this, args);
    return isRotator(this) ? points.around('statement', call) : call();
  } as typeof query;
  pg.Client.prototype.connect = function around(this: pg.Client, callback?: (error: Error | null) => void) {
    const call = (done?: (error: Error | null) => void): unknown =>
      Reflect.apply<pg.Client, unknown[], unknown>(connect, this, [done]);
    if (callback === undefined || isRotator(this)) return call(callback);
    const connected = (): Promise<Error | null> => new Promise((resolve) => void call(resolve));
    void points.around('connection', connected).then(callback);
    return undefined;
  } as typeof connect;
}
