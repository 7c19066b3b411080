import type { StoreCommit, StoreDriver } from '@nestjs-secrets/core';
import type { CrashPoints } from './crash-points.js';
import { LEDGER } from './rotating-app.js';
import type { DatabaseRotator } from './target-kinds.js';

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
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
    commit: (commit) => (isLedger(commit) ? store.commit(commit) : points.around('commit', () => store.commit(commit))),
  };
}

/** The rotator with a crash point on each side of each step. While `verifyFails`, its `verify` arms the points and throws instead. */
export function crashingRotator(
  rotator: DatabaseRotator,
  points: CrashPoints,
  verifyFails: () => boolean,
): DatabaseRotator {
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
