import { CorruptRecordError } from '../foundation/errors.js';
import { StoreMovedError } from './move-errors.js';
import type { MoveReport } from './move-events.js';
import type { StoreDriver, StoreEntry, StoreWrite } from './store-driver.js';

/** Everything about a move stands under this prefix, and is seen by nobody above. */
export const MOVE_PREFIX = 'moving/';
/** No key of a move sorts after this one. */
export const LAST_OF_MOVE = `${MOVE_PREFIX}~`;
/** In the old store: the phase, on which every commit there depends. */
export const PHASE_KEY = `${MOVE_PREFIX}phase`;
/** In the old store: who carries the move out. */
export const MOVER_KEY = `${MOVE_PREFIX}mover`;
/** In the new store: whether what is there is a copy in the making, or all of it. */
export const ARRIVAL_KEY = `${MOVE_PREFIX}arrival`;
/** The heartbeats of instances. */
export const INSTANCE_PREFIX = 'instance/';
/** In the old store, beside the heartbeat of an instance: the instance knows of moves. */
export const THROUGH_PREFIX = `${MOVE_PREFIX}through/`;

/**
 * `none`: nothing is under way, or it was given up. `copying`: the old store is the truth, and is being copied. `frozen`: the same, and nothing is committed anywhere.
 * `moved`: the new store is the truth, for good.
 */
export type MovePhase = 'none' | 'copying' | 'frozen' | 'moved';

/** What the old store says of a move. */
export interface PhaseRecord {
  readonly format: 1;
  readonly phase: MovePhase;
  /** Which move it is. */
  readonly id: string;
  /** The names of the drivers, for messages. */
  readonly to: string;
  /** How long a freeze may last, in milliseconds, before whoever waits for its end ends it. */
  readonly freezeMs: number;
  /** With `moved`: the revision of the new store by then. What stands there under a later one was written after the move. */
  readonly cut?: number;
  /** With `moved`: what the mover has said. */
  readonly report?: MoveReport;
}

/** The phase as read; revision 0 where no record is. */
export interface KnownPhase {
  readonly record: PhaseRecord;
  /** Of the driver, as it gave it. */
  readonly revision: number;
}

export interface ArrivalRecord {
  readonly format: 1;
  readonly state: 'arriving' | 'arrived';
  readonly id: string;
  /** The name of the driver it comes from, for messages. */
  readonly from: string;
  /** Rewritten to shut out what is still on its way from before. */
  readonly fence: number;
  /** With `arrived`: what is added to the revisions of this store, so that they go on where those of the old one ended. */
  readonly offset?: number;
  readonly report?: MoveReport;
}

export interface MoverRecord {
  readonly format: 1;
  readonly holder: string;
  /** For how long without a beat the mover is taken for dead, in milliseconds. */
  readonly leaseMs: number;
  readonly beat: number;
}

/** The phase as a new store tells it that has arrived. */
export function movedPhase({ id, offset = 0, report }: ArrivalRecord, to: string, base: number): KnownPhase {
  const record: PhaseRecord = { format: 1, phase: 'moved', id, to, freezeMs: 0, ...(report && { report }) };
  return { record, revision: offset - base };
}

const PHASES: readonly MovePhase[] = ['none', 'copying', 'frozen', 'moved'];

export const NO_MOVE: KnownPhase = {
  record: { format: 1, phase: 'none', id: '', to: '', freezeMs: 0 },
  revision: 0,
};

export function recordWrite(key: string, record: PhaseRecord | ArrivalRecord | MoverRecord): StoreWrite {
  return { key, value: Buffer.from(JSON.stringify(record)) };
}

/** @throws CorruptRecordError */
export async function readPhase(from: StoreDriver): Promise<KnownPhase> {
  const entry = await from.get(PHASE_KEY);
  if (entry === undefined) return NO_MOVE;
  const record = parsed(entry, (value: PhaseRecord) => value.format === 1 && PHASES.includes(value.phase));
  return { record, revision: entry.revision };
}

/** @throws CorruptRecordError */
export async function readArrival(
  to: StoreDriver,
): Promise<{ readonly record: ArrivalRecord; readonly revision: number } | undefined> {
  const entry = await to.get(ARRIVAL_KEY);
  if (entry === undefined) return undefined;
  const record = parsed(entry, ({ format, state, offset }: ArrivalRecord) => {
    const isWhole = state === 'arriving' || (state === 'arrived' && Number.isSafeInteger(offset));
    return format === 1 && isWhole;
  });
  return { record, revision: entry.revision };
}

/** @throws CorruptRecordError */
export async function readMover(
  from: StoreDriver,
): Promise<{ readonly record: MoverRecord; readonly revision: number } | undefined> {
  const entry = await from.get(MOVER_KEY);
  if (entry === undefined) return undefined;
  const record = parsed(entry, ({ format, leaseMs }: MoverRecord) => format === 1 && leaseMs > 0);
  return { record, revision: entry.revision };
}

/**
 * For whoever opens a store without `movingStore`: makes sure that it is no store that others have left, are leaving, or are still on their way to. To be asked
 * before the process says in the store that it is there, and again after it: a move that begins in between sees the process, or is seen by it.
 * @throws StoreMovedError
 */
export async function refuseMovedStore(store: StoreDriver): Promise<void> {
  const { phase, to } = (await readPhase(store)).record;
  if (phase === 'moved')
    throw new StoreMovedError(
      store.name,
      `was moved to ${to}, where everything is now: what is left here is as it was then. Open ${to} instead. (Do not go back by deleting the entry ${PHASE_KEY}: what was written since would be lost.)`,
    );
  if (phase !== 'none')
    throw new StoreMovedError(
      store.name,
      `is being moved to ${to}. Open it with movingStore({ from, to }), like the other processes, until the move has come to its end.`,
    );
  const arrival = (await readArrival(store))?.record;
  if (arrival?.state === 'arriving')
    throw new StoreMovedError(
      store.name,
      `is the copy in the making of ${arrival.from}, and not complete. Open it with movingStore({ from, to }) until the move has come to its end; after a move that was given up, empty it.`,
    );
}

/** What is to be added to the revisions of a store so that they are above all that the stores before it have given; 0 where nothing was moved. */
export async function arrivalOffset(store: StoreDriver): Promise<number> {
  return (await readArrival(store))?.record.offset ?? 0;
}

/** The revision of a store, counted on through all its moves: for what is kept in the store and must only grow. */
export async function lastingRevision(store: StoreDriver): Promise<number> {
  return (await arrivalOffset(store)) + (await store.revision());
}

function parsed<R>(entry: StoreEntry, isWhole: (record: R) => boolean): R {
  try {
    const record: R = JSON.parse(Buffer.from(entry.value).toString('utf8'));
    if (isWhole(record)) return record;
  } catch {
    // Falls through to the one error below.
  }
  throw new CorruptRecordError(`The entry ${entry.key} of the store`, 'it does not parse');
}
