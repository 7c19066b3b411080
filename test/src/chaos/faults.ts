import { readFile, readdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Fleet, OBSERVER } from './fleet.js';
import type { FleetProcess } from './fleet-process.js';
import { BASE_NAME } from './fleet-order.js';
import type { SeededDice } from './seeded-dice.js';

/** What a fault touches: two that touch the same do not come at once. */
type Touches = 'store' | 'process' | 'rotator' | 'target';

interface FaultKind {
  readonly weight: number;
  readonly touches: readonly Touches[];
  /** Resolves when all is well again, or undefined when there was nothing to do harm to. */
  readonly bring: (fleet: Fleet, dice: SeededDice) => Promise<void> | undefined;
}

/**
 * All faults by their names. A process is stopped for longer than its lease only while the store can be reached: without it, one that wakes up
 * cannot learn that its credential is gone.
 */
export const FAULTS: ReadonlyMap<string, FaultKind> = new Map<string, FaultKind>([
  ['kill', { weight: 4, touches: ['process'], bring: kill }],
  ['freeze-long', { weight: 3, touches: ['process', 'store'], bring: (fleet, dice) => freeze(fleet, dice, 1.5, 4) }],
  ['freeze-short', { weight: 2, touches: ['process'], bring: (fleet, dice) => freeze(fleet, dice, 0.1, 0.5) }],
  ['store-connections-cut', { weight: 2, touches: ['store'], bring: cutStoreConnections }],
  ['store-held', { weight: 1, touches: ['store'], bring: (fleet, dice) => storeAway(fleet, dice, 'hold') }],
  ['store-lost', { weight: 1, touches: ['store'], bring: (fleet, dice) => storeAway(fleet, dice, 'lose') }],
  ['store-refused', { weight: 1, touches: ['store'], bring: (fleet, dice) => storeAway(fleet, dice, 'refuse') }],
  ['store-stopped', { weight: 1, touches: ['store'], bring: stopStore }],
  ['store-crash', { weight: 1, touches: ['store'], bring: crashStore }],
  ['store-slow', { weight: 1, touches: ['store'], bring: slowStore }],
  ['store-link-held', { weight: 1, touches: ['store'], bring: holdOneStoreLink }],
  ['rotator-lost', { weight: 1, touches: ['rotator'], bring: (fleet, dice) => rotatorAway(fleet, dice, 'lose') }],
  ['rotator-refused', { weight: 1, touches: ['rotator'], bring: (fleet, dice) => rotatorAway(fleet, dice, 'refuse') }],
  ['rotator-slow', { weight: 2, touches: ['rotator'], bring: slowRotator }],
  ['wrong-admin', { weight: 1, touches: ['rotator'], bring: wrongAdmin }],
  ['target-idle-cut', { weight: 1, touches: ['target'], bring: cutIdleTarget }],
]);

const AFTERMATH_MS = 1_000;

/** Brings faults upon a fleet, one every few seconds, until it is stopped. */
export class Faults {
  readonly counts = new Map<string, number>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #touched = new Set<Touches>();
  readonly #stopping = new AbortController();
  #bringing: Promise<void> = Promise.resolve();

  constructor(
    private readonly fleet: Fleet,
    private readonly dice: SeededDice,
    private readonly kinds: readonly string[],
    private readonly told: (what: string) => void,
  ) {}

  start(leastMs: number, mostMs: number): void {
    this.#bringing = this.#bring(leastMs, mostMs);
  }

  /** Resolves when all is well again. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#bringing;
    await Promise.all(this.#underWay);
  }

  async #bring(leastMs: number, mostMs: number): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      await delay(this.dice.between(leastMs, mostMs), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const name = this.#choose();
      if (name !== undefined) this.#begin(name);
    }
  }

  #choose(): string | undefined {
    const possible = this.kinds.flatMap((name) => {
      const kind = FAULTS.get(name);
      if (kind === undefined || kind.touches.some((what) => what !== 'process' && this.#touched.has(what))) return [];
      return Array.from({ length: kind.weight }, () => name);
    });
    return this.dice.oneOf(possible);
  }

  #begin(name: string): void {
    const kind = FAULTS.get(name);
    const brought = kind?.bring(this.fleet, this.dice);
    if (kind === undefined || brought === undefined) return;
    this.told(name);
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    for (const what of kind.touches) this.#touched.add(what);
    const over = brought
      .catch((error: unknown) => this.told(`${name}: ${String(error)}`))
      .then(() => delay(AFTERMATH_MS))
      .finally(() => {
        for (const what of kind.touches) this.#touched.delete(what);
        this.#underWay.delete(over);
      });
    this.#underWay.add(over);
  }
}

/** One of the processes that serve, as long as more than half of them do. */
function victim(fleet: Fleet, dice: SeededDice): [number, FleetProcess] | undefined {
  const serving = [...fleet.processes.entries()].filter(([, process]) => process.isServing);
  return serving.length * 2 > fleet.processes.length ? dice.oneOf(serving) : undefined;
}

function kill(fleet: Fleet, dice: SeededDice): Promise<void> | undefined {
  const found = victim(fleet, dice);
  if (found === undefined) return undefined;
  const [index, process] = found;
  const startAfterMs = dice.between(200, 3_000);
  return (async () => {
    process.kill();
    await process.ended;
    await delay(startAfterMs);
    await startUntilItServes(fleet, index);
  })();
}

/** A process cannot start without the store, and its supervisor tries again. */
async function startUntilItServes(fleet: Fleet, index: number): Promise<void> {
  for (;;) {
    const next = fleet.startProcess(index);
    try {
      await next.ready;
      return;
    } catch {
      await delay(500);
    }
  }
}

function freeze(fleet: Fleet, dice: SeededDice, least: number, most: number): Promise<void> | undefined {
  const found = victim(fleet, dice);
  if (found === undefined) return undefined;
  const [, process] = found;
  const forMs = fleet.leaseMs * dice.between(least, most);
  process.freeze();
  return delay(forMs).then(() => process.thaw());
}

async function cutStoreConnections(fleet: Fleet): Promise<void> {
  await fleet.inStore(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name NOT LIKE '${OBSERVER}' AND pid <> pg_backend_pid()`,
  );
}

async function storeAway(fleet: Fleet, dice: SeededDice, how: 'hold' | 'lose' | 'refuse'): Promise<void> {
  const forMs = dice.between(500, 3 * fleet.leaseMs);
  for (const link of fleet.storeLinks) link[how]();
  await delay(forMs);
  for (const link of fleet.storeLinks) link.mend();
}

async function stopStore(fleet: Fleet, dice: SeededDice): Promise<void> {
  const processes = [fleet.servers.store.pid, ...(await childrenOf(fleet.servers.store.pid))];
  const forMs = dice.between(500, 2 * fleet.leaseMs);
  for (const pid of processes) signal(pid, 'SIGSTOP');
  await delay(forMs);
  for (const pid of processes) signal(pid, 'SIGCONT');
}

/** One of the server's processes dies, so it ends all of them, recovers, and starts anew: https://www.postgresql.org/docs/current/server-shutdown.html */
async function crashStore(fleet: Fleet): Promise<void> {
  const [backend] = await fleet.inStore<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() LIMIT 1`,
  );
  if (backend !== undefined) signal(backend.pid, 'SIGKILL');
}

async function slowStore(fleet: Fleet, dice: SeededDice): Promise<void> {
  const [byMs, forMs] = [dice.between(20, 120), dice.between(2_000, 6_000)];
  for (const link of fleet.storeLinks) link.slow(byMs);
  await delay(forMs);
  for (const link of fleet.storeLinks) link.mend();
}

/** Shorter than a lease: one that is cut off alone for longer is taken for dead, and what it still uses is retired. */
async function holdOneStoreLink(fleet: Fleet, dice: SeededDice): Promise<void> {
  const link = dice.oneOf(fleet.storeLinks);
  const forMs = fleet.leaseMs * dice.between(0.1, 0.9);
  link?.hold();
  await delay(forMs);
  link?.mend();
}

async function rotatorAway({ rotatorLink }: Fleet, dice: SeededDice, how: 'lose' | 'refuse'): Promise<void> {
  const forMs = dice.between(500, 6_000);
  rotatorLink[how]();
  await delay(forMs);
  rotatorLink.mend();
}

async function slowRotator({ rotatorLink }: Fleet, dice: SeededDice): Promise<void> {
  const [byMs, forMs] = [dice.between(20, 250), dice.between(2_000, 6_000)];
  rotatorLink.slow(byMs);
  await delay(forMs);
  rotatorLink.mend();
}

async function wrongAdmin(fleet: Fleet, dice: SeededDice): Promise<void> {
  const forMs = dice.between(500, 3_000);
  const processes = fleet.processes.filter((process) => process.isServing);
  const all = (works: boolean): Promise<unknown> =>
    Promise.allSettled(processes.map((process) => process.ask({ ask: 'admin', works })));
  // Whoever is stopped meanwhile hears of both when it goes on.
  void all(false);
  await delay(forMs);
  void all(true);
}

/** Only sessions that nobody has used for a while: whoever cuts others breaks what they are doing. */
async function cutIdleTarget({ servers }: Fleet): Promise<void> {
  await servers.target.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE usename LIKE '${BASE_NAME}%' AND state = 'idle' AND state_change < now() - interval '1 second'`,
  );
}

async function childrenOf(pid: number): Promise<number[]> {
  const numbers = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const number of numbers) {
    const stat = await readFile(`/proc/${number}/stat`, 'latin1').catch(() => '');
    // Behind the name, which may hold anything: state, parent; see proc(5).
    if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid) found.push(number);
  }
  return found;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended meanwhile.
  }
}
