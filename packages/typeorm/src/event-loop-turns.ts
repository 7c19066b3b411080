import { setImmediate as nextTurn } from 'node:timers/promises';

/** Resolves when a batch may begin; `hadCompany` says whether the last one was shared. */
export type Gather = (hadCompany: boolean) => Promise<void>;

/** A question to a server takes so long that waiting for company always pays. */
export const everyTurn: Gather = async () => {
  await nextTurn();
};

/** The longest that a caller may go on without a turn of the event loop, in milliseconds. */
const LONGEST_MS = 2;

/**
 * For a database within the process, where a turn costs a good part of what a read or a commit does: a caller on its own goes on at once. It takes turns when the
 * last batch was shared, so that those who work at the same time find each other, and now and then, so that everything else in the process has its share.
 */
export function sparingTurns(monotonic = () => performance.now()): Gather {
  let lastMs = Number.NEGATIVE_INFINITY;
  return async (hadCompany) => {
    if (!hadCompany && monotonic() - lastMs < LONGEST_MS) return;
    await nextTurn();
    lastMs = monotonic();
  };
}
