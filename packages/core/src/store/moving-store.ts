import { type Observable, Subject } from 'rxjs';
import { type Cancel, type Clock, systemClock } from '../foundation/clock.js';
import { StoreClosedError } from '../foundation/errors.js';
import { type Ids, randomIds } from '../foundation/ids.js';
import { MoveCommits } from './move-commits.js';
import type { MoveEvent, MoveReport } from './move-events.js';
import { MoveGate } from './move-gate.js';
import {
  arrivalOffset,
  type KnownPhase,
  LAST_OF_MOVE,
  MOVE_PREFIX,
  movedPhase,
  type MovePhase,
  PHASE_KEY,
  readArrival,
  refuseMovedStore,
} from './move-records.js';
import type { StoreCommit, StoreDriver, StoreEntry, StoreHint, StoreListOptions } from './store-driver.js';
import { MoveWatches } from './move-watches.js';
import { StoreMover } from './store-mover.js';
import { checkCommit, checkKey, checkList, InvalidStoreRequestError, StoreOptionsError } from './store-request.js';

export interface MovingStoreOptions {
  /** The store that is left. */
  readonly from: StoreDriver;
  /** The store that is moved to; empty when the move begins. */
  readonly to: StoreDriver;
  /** How long commits may wait for the last part of the move, in milliseconds; 10,000 by default, at least 1000. What takes longer is put off and tried again. */
  readonly freezeMs?: number;
  /** After how long without a word whoever moves the store is taken for dead, in milliseconds; 10,000 by default. */
  readonly leaseMs?: number;
  /** For tests: where time and ids come from. */
  readonly clock?: Clock;
  readonly ids?: Ids;
}

/**
 * A store that is moved from one driver to another while applications work on it. Until `move()` is called by an operator, in any one process, it is the old store;
 * after it, the new one. All processes of the store must have been started with `movingStore` before. See docs/moving.md.
 */
export interface MovingStore extends StoreDriver {
  /** What happens to the move, in this process; nothing is replayed. Completes when the store is closed. */
  readonly moves$: Observable<MoveEvent>;
  /** In which phase the move is, as the store says. */
  phase(): Promise<MovePhase>;
  /**
   * Copies everything to the new store while the application works, has commits wait for a moment, compares both stores, and makes the new one the truth. Resolves when that is
   * done; called again, also elsewhere and after a crash, it goes on, or says again what was done.
   * @throws StoreMoveError `STORE_MOVE_REFUSED`, `STORE_MOVE_BUSY`, `STORE_MOVE_FAILED`
   */
  move(): Promise<MoveReport>;
  /**
   * Gives up a move that has not come to its end: the old store stays the truth, and opens by itself again. The new one is to be emptied.
   * @throws StoreMoveError `STORE_MOVE_REFUSED` when the store was moved already
   */
  giveUp(): Promise<void>;
}

const DEFAULT_FREEZE_MS = 10_000;
const SHORTEST_FREEZE_MS = 1000;
const DEFAULT_LEASE_MS = 10_000;
/** How often to ask for the phase, should its hint get lost and nobody read or write. */
const LOOK_EVERY_MS = 2000;
const BRAND = Symbol.for('@nestjs-secrets/moving-store');

/** @throws StoreOptionsError */
export function movingStore(options: MovingStoreOptions): MovingStore {
  const { freezeMs = DEFAULT_FREEZE_MS, leaseMs = DEFAULT_LEASE_MS } = options;
  if (!(freezeMs >= SHORTEST_FREEZE_MS && Number.isFinite(freezeMs)) || !(leaseMs > 0 && Number.isFinite(leaseMs)))
    throw new StoreOptionsError(
      `movingStore takes a freezeMs of ${SHORTEST_FREEZE_MS} or more and a leaseMs above 0, not ${freezeMs} and ${leaseMs}.`,
    );
  if (options.from === options.to) throw new StoreOptionsError('movingStore was given one store twice.');
  return new StoreOnTheMove(options, freezeMs, leaseMs);
}

/** Whether a store is one of `movingStore`, whichever build made it. */
export function isMovingStore(store: StoreDriver): store is MovingStore {
  return BRAND in store;
}

class StoreOnTheMove implements MovingStore {
  readonly name: string;
  readonly moves$: Observable<MoveEvent>;
  readonly [BRAND] = true;
  readonly #from: StoreDriver;
  readonly #to: StoreDriver;
  readonly #clock: Clock;
  readonly #gate: MoveGate;
  readonly #mover: StoreMover;
  readonly #watches: MoveWatches;
  readonly #events = new Subject<MoveEvent>();
  readonly #closing = new AbortController();
  readonly #commits: MoveCommits;
  #state: 'new' | 'open' | 'closed' = 'new';
  #opening: Promise<void> | undefined;
  /** Added to the revisions of the old store, which may itself have been moved to. */
  #base = 0;
  #looking: Cancel = () => undefined;

  constructor(
    { from, to, clock = systemClock, ids = randomIds }: MovingStoreOptions,
    freezeMs: number,
    leaseMs: number,
  ) {
    this.name = `${from.name}, moving to ${to.name}`;
    this.moves$ = this.#events.asObservable();
    [this.#from, this.#to, this.#clock] = [from, to, clock];
    const { signal } = this.#closing;
    this.#gate = new MoveGate({
      from,
      to,
      base: () => this.#base,
      clock,
      signal,
      onChange: (phase) => this.#changed(phase),
    });
    this.#watches = new MoveWatches(from);
    this.#commits = new MoveCommits(from, to, () => this.#base);
    const parts = { from, to, gate: this.#gate, clock, ids, events: this.#events, signal, freezeMs, leaseMs };
    this.#mover = new StoreMover({ ...parts, base: () => this.#base });
  }

  async open(): Promise<void> {
    if (this.#state === 'closed') throw new StoreClosedError(this.name);
    this.#opening ??= this.#openOnce().finally(() => (this.#opening = undefined));
    await this.#opening;
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    this.#closing.abort();
    this.#looking();
    this.#watches.close();
    await this.#from.close();
    await this.#to.close();
    this.#events.complete();
  }

  async get(key: string): Promise<StoreEntry | undefined> {
    this.#mustBeOpen();
    checkKey(key);
    // Of a move that goes on from the new store, whoever opens this one must hear.
    if (key.startsWith(MOVE_PREFIX) && !(key === PHASE_KEY && this.#isMoved())) return undefined;
    return this.#read(
      (driver) => driver.get(key),
      (entry, offset) => entry && counted(entry, offset),
    );
  }

  async list(options: StoreListOptions): Promise<StoreEntry[]> {
    this.#mustBeOpen();
    checkList(options);
    return this.#read(
      (driver) => listOthers(driver, options),
      (entries, offset) => entries.map((entry) => counted(entry, offset)),
    );
  }

  async revision(): Promise<number> {
    this.#mustBeOpen();
    return this.#read(
      (driver) => driver.revision(),
      (revision, offset) => revision + offset,
    );
  }

  async commit(commit: StoreCommit): Promise<number | undefined> {
    this.#mustBeOpen();
    checkCommit(commit);
    for (const { key } of [...commit.conditions, ...commit.writes])
      if (key.startsWith(MOVE_PREFIX)) throw new InvalidStoreRequestError(`${key} belongs to the move of the store.`);
    // The caller may change its bytes as soon as it has the promise, and this may have to wait.
    const own = {
      conditions: commit.conditions.map((condition) => ({ ...condition })),
      writes: commit.writes.map(({ key, value }) => ({ key, value: value && Buffer.from(value) })),
    };
    for (;;) {
      const before = this.#gate.known;
      if (before.record.phase === 'moved') return this.#commits.there(own, before);
      if (before.record.phase === 'frozen') {
        await this.#gate.thawed();
        this.#mustBeOpen();
        continue;
      }
      const askedAt = this.#clock.monotonic();
      const revision = await this.#commits.here(own, before);
      if (revision !== undefined) {
        this.#gate.confirmed(before, askedAt);
        return revision + this.#base;
      }
      // Either one of the caller's conditions did not hold, or that on the phase.
      if ((await this.#gate.confirm()) === before) return undefined;
    }
  }

  watch(onHint: (hint: StoreHint) => void, prefixes?: readonly string[]): () => void {
    this.#mustBeOpen();
    return this.#watches.add(onHint, prefixes);
  }

  async phase(): Promise<MovePhase> {
    this.#mustBeOpen();
    return (await this.#gate.confirm()).record.phase;
  }

  async move(): Promise<MoveReport> {
    this.#mustBeOpen();
    return this.#mover.move();
  }

  async giveUp(): Promise<void> {
    this.#mustBeOpen();
    await this.#mover.giveUp();
  }

  async #openOnce(): Promise<void> {
    if (this.#state === 'open') return;
    await this.#to.open();
    const arrival = await readArrival(this.#to);
    if (arrival?.record.state === 'arrived') {
      // Everything is there: the old store may be gone.
      await refuseMovedStore(this.#to);
      this.#gate.confirmed(movedPhase(arrival.record, this.#to.name, 0), this.#clock.monotonic());
    } else {
      await this.#from.open();
      this.#base = await arrivalOffset(this.#from);
      const phase = await this.#gate.confirm();
      // Of a mover that died after its last step but one.
      if (phase.record.phase === 'moved') await this.#mover.arrive();
      else this.#watches.watchPhase(() => void this.#gate.confirm().catch(() => undefined));
    }
    if (this.#state !== 'new') return;
    this.#state = 'open';
    this.#lookOnAndOn();
  }

  async #read<R, S>(ask: (driver: StoreDriver) => Promise<R>, present: (answer: R, offset: number) => S): Promise<S> {
    for (;;) {
      const before = this.#gate.known;
      if (before.record.phase === 'moved') return present(await ask(this.#to), this.#base + before.revision);
      let answer: { readonly of: R } | undefined;
      try {
        answer = { of: await ask(this.#from) };
      } catch (error) {
        // It may have been switched off since it was moved.
        if ((await this.#gate.confirm().catch(() => before)).record.phase !== 'moved') throw error;
        continue;
      }
      if (this.#gate.isSure(before)) return present(answer.of, this.#base);
      // Still not moved after it was read, it was the truth when it was read.
      if ((await this.#gate.confirm()).record.phase !== 'moved') return present(answer.of, this.#base);
    }
  }

  #isMoved(): boolean {
    return this.#gate.known.record.phase === 'moved';
  }

  #changed({ record }: KnownPhase): void {
    if (record.phase !== 'moved' || this.#state === 'closed') return;
    this.#watches.switchTo(this.#to);
    this.#events.next({ type: 'switched', at: this.#clock.now(), id: record.id });
  }

  #lookOnAndOn(): void {
    if (this.#state !== 'open' || this.#isMoved()) return;
    this.#looking = this.#clock.after(LOOK_EVERY_MS, () => {
      void this.#gate
        .confirm()
        .catch(() => undefined)
        .then(() => this.#lookOnAndOn());
    });
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') throw new StoreClosedError(this.name);
  }
}

function counted(entry: StoreEntry, offset: number): StoreEntry {
  return { key: entry.key, value: entry.value, revision: entry.revision + offset };
}

/** A page without what belongs to the move. */
async function listOthers(driver: StoreDriver, options: StoreListOptions): Promise<StoreEntry[]> {
  const { prefix, after = '', limit } = options;
  const page = await driver.list(options);
  if (!page.some(({ key }) => key.startsWith(MOVE_PREFIX))) return page;
  const before = page.filter(({ key }) => key < MOVE_PREFIX);
  const left = limit - before.length;
  if (left === 0 || prefix.startsWith(MOVE_PREFIX)) return before;
  const rest = await driver.list({ prefix, after: after > LAST_OF_MOVE ? after : LAST_OF_MOVE, limit: left });
  return [...before, ...rest];
}
