import { type Cancel, type Clock, pause } from '../foundation/clock.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreCommit, StoreDriver } from '../store/store-driver.js';
import { INSTANCE_PREFIX, type InstanceRecord } from './instance-record.js';
import type { ProcessTable } from './process-identity.js';

export interface InstanceParts {
  readonly store: StoreDriver;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly processes: ProcessTable;
  /** 1–64 of `A-Z a-z 0-9 -`, of this process alone. */
  readonly id: string;
  /** How long a heartbeat counts, in milliseconds. */
  readonly leaseMs: number;
}

/** A commit that tells others again what this instance holds. */
export interface ToldAnew extends StoreCommit {
  written(revision: number): void;
}

/** What parts of this process want to know about its lease. */
export interface InstanceListener {
  /** The lease ran out: others may act in this process's place from now on. */
  lapsed?(): void;
  /**
   * Others had declared this process dead, and what it told them before is gone: what must be told anew. The first goes with the commit that brings
   * it back, so that nobody finds it there and nothing of what it holds; the others follow.
   */
  rejoining?(): Promise<readonly ToldAnew[]>;
  /** The lease holds again after it had run out. */
  back?(): void;
}

const BEATS_PER_LEASE = 3;
const ATTEMPTS = 5;
/** For how many leases a heartbeat that took long is remembered. */
const RECENT_LEASES = 3;
/** After a pause nobody waits longer than this for the store to say what has changed meanwhile. */
const AWAKE_LIMIT_MS = 2_000;

/**
 * This process among those that share a store: a heartbeat in the store says that it lives.
 *
 * All durations are measured on this process's own monotonic clock. The lease counts from when the latest confirmed heartbeat was *sent*, so it
 * ends here before anybody else can take it for ended, as long as no clock runs much faster than another (see docs/guarantees.md).
 */
export class Instance {
  readonly id: string;
  readonly leaseMs: number;
  readonly #key: string;
  readonly #startedAt: number;
  readonly #listeners = new Set<InstanceListener>();
  #revision = 0;
  #beat = 0;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  /** When the heartbeat on its way was begun. */
  #beatingSince: number | undefined;
  /** Heartbeats that have come to an end, well or badly, within the recent leases. */
  #recentBeats: { readonly endedAt: number; readonly tookMs: number }[] = [];
  #isLapsed = false;
  /** Others had declared this process dead, and it has not told everything anew yet. */
  #isForgotten = false;
  #beating: Promise<void> | undefined;
  #ticked: { readonly monotonic: number; readonly wall: number };
  #pauses = 0;
  #waking: Promise<void> | undefined;
  #nextTick: Cancel | undefined;
  #lapse: Cancel | undefined;
  #left = false;

  constructor(private readonly parts: InstanceParts) {
    this.id = parts.id;
    this.leaseMs = parts.leaseMs;
    this.#key = INSTANCE_PREFIX + parts.id;
    this.#startedAt = parts.clock.now();
    this.#ticked = this.#moment();
  }

  /**
   * Makes this instance known. To be awaited before it reads any secret.
   * @throws StoreUnavailableError
   */
  async join(): Promise<void> {
    this.#ticked = this.#moment();
    await this.#send(false);
    this.#scheduleTick();
  }

  /** Takes this instance off the list, so that nobody waits for it. Never throws: others find out by themselves. */
  async leave(): Promise<void> {
    this.#left = true;
    this.#nextTick?.();
    this.#lapse?.();
    await this.#beating?.catch(() => undefined);
    this.#confirmedAt = Number.NEGATIVE_INFINITY;
    await this.parts.store.commit({ conditions: [], writes: [{ key: this.#key, value: null }] }).catch(() => undefined);
  }

  /** Whether nobody can have taken this instance for dead. */
  isLive(): boolean {
    return this.parts.clock.monotonic() - this.#confirmedAt < this.leaseMs;
  }

  /**
   * How long the store has kept this instance's own heartbeats waiting, at worst, within the last few leases, in milliseconds. Those of others may
   * have waited as long, and are then late without anybody being dead.
   */
  strainMs(): number {
    const now = this.parts.clock.monotonic();
    const onItsWay = this.#beatingSince === undefined ? 0 : now - this.#beatingSince;
    this.#recentBeats = this.#recentBeats.filter(({ endedAt }) => now - endedAt < RECENT_LEASES * this.leaseMs);
    return Math.max(onItsWay, ...this.#recentBeats.map(({ tookMs }) => tookMs));
  }

  listen(listener: InstanceListener): Cancel {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** How often this process found that it had been paused for longer than its lease; looks at the clock, so the answer is of this moment. */
  pauses(): number {
    this.#noticePause();
    return this.#pauses;
  }

  /** Resolves when the lease holds again after a pause, or when the store does not answer in time. */
  awake(): Promise<void> {
    return this.#waking ?? Promise.resolve();
  }

  #moment(): { readonly monotonic: number; readonly wall: number } {
    return { monotonic: this.parts.clock.monotonic(), wall: this.parts.clock.now() };
  }

  /** A tick that comes a whole lease late was kept from running: by SIGSTOP, a suspended machine (whose monotonic clock may stand still), or a blocked event loop. */
  #noticePause(): void {
    const now = this.#moment();
    const gap = Math.max(now.monotonic - this.#ticked.monotonic, now.wall - this.#ticked.wall);
    if (gap < this.leaseMs || this.#left) return;
    this.#ticked = now;
    this.#pauses += 1;
    if (!this.isLive()) this.#lapsed();
    const inTime = new AbortController();
    this.#waking = Promise.race([
      this.#heartbeat().catch(() => undefined),
      pause(this.parts.clock, AWAKE_LIMIT_MS, inTime.signal),
    ]).finally(() => {
      inTime.abort();
      this.#waking = undefined;
    });
  }

  #scheduleTick(): void {
    if (this.#left) return;
    const { clock, randomness } = this.parts;
    const usual = this.leaseMs / BEATS_PER_LEASE;
    this.#nextTick = clock.after(usual - randomness.below(Math.ceil(usual / 10)), () => {
      this.#noticePause();
      this.#ticked = this.#moment();
      // What fails is tried again at the next tick; until then the lease says how much this process may still do.
      this.#heartbeat().catch(() => undefined);
      this.#scheduleTick();
    });
  }

  #heartbeat(): Promise<void> {
    this.#beating ??= this.#timed(() => this.#send(true)).finally(() => (this.#beating = undefined));
    return this.#beating;
  }

  async #timed(beat: () => Promise<void>): Promise<void> {
    const { clock } = this.parts;
    const begun = clock.monotonic();
    this.#beatingSince = begun;
    try {
      await beat();
    } finally {
      const endedAt = clock.monotonic();
      this.#beatingSince = undefined;
      this.strainMs();
      this.#recentBeats.push({ endedAt, tookMs: endedAt - begun });
    }
  }

  async #send(isKnown: boolean): Promise<void> {
    const { store, clock } = this.parts;
    let told: readonly ToldAnew[] = this.#isForgotten ? await this.#everythingToTell() : [];
    for (let attempt = 0; attempt < ATTEMPTS && !this.#left; attempt += 1) {
      const sentAt = clock.monotonic();
      const [first] = told;
      const revision = await store.commit({
        conditions: [{ key: this.#key, revision: this.#revision }, ...(first?.conditions ?? [])],
        writes: [{ key: this.#key, value: this.#encode() }, ...(first?.writes ?? [])],
      });
      if (revision !== undefined) {
        this.#revision = revision;
        first?.written(revision);
        // Lives again only when others know what it holds; what fails here is told by a later heartbeat.
        if (!(await this.#tell(told.slice(1)))) return;
        this.#isForgotten = false;
        this.#confirmed(sentAt);
        this.#restored();
        return;
      }
      const entry = await store.get(this.#key);
      // A heartbeat whose answer was lost may have been stored all the same. Without an entry, others have declared this process dead.
      this.#revision = entry === undefined ? 0 : entry.revision;
      if (entry === undefined && isKnown) {
        this.#isForgotten = true;
        this.#confirmedAt = Number.NEGATIVE_INFINITY;
        this.#lapsed();
      }
      if (this.#isForgotten) told = await this.#everythingToTell();
    }
  }

  async #everythingToTell(): Promise<ToldAnew[]> {
    const told: ToldAnew[] = [];
    for (const listener of this.#listeners) told.push(...((await listener.rejoining?.()) ?? []));
    return told;
  }

  async #tell(told: readonly ToldAnew[]): Promise<boolean> {
    for (const { conditions, writes, written } of told) {
      const revision = await this.parts.store.commit({ conditions, writes });
      if (revision === undefined) return false;
      written(revision);
    }
    return true;
  }

  #confirmed(sentAt: number): void {
    this.#confirmedAt = sentAt;
    this.#awaitLapse();
  }

  #awaitLapse(): void {
    this.#lapse?.();
    if (this.#left) return;
    const left = this.leaseMs - (this.parts.clock.monotonic() - this.#confirmedAt);
    // Timers may come a little early, so the clock decides.
    this.#lapse = this.parts.clock.after(Math.max(1, left), () => {
      if (this.isLive()) this.#awaitLapse();
      else this.#lapsed();
    });
  }

  #lapsed(): void {
    if (this.#isLapsed || this.#left) return;
    this.#isLapsed = true;
    for (const listener of this.#listeners) listener.lapsed?.();
  }

  #restored(): void {
    if (!this.#isLapsed || !this.isLive()) return;
    this.#isLapsed = false;
    for (const listener of this.#listeners) listener.back?.();
  }

  #encode(): Buffer {
    this.#beat += 1;
    const identity = this.parts.processes.self();
    const record: InstanceRecord = {
      format: 1,
      id: this.id,
      beat: this.#beat,
      leaseMs: this.leaseMs,
      startedAt: this.#startedAt,
      ...(identity === undefined ? {} : { process: identity }),
    };
    return Buffer.from(JSON.stringify(record));
  }
}
