import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { FleetLoad } from './fleet-order.js';
import { moment } from './moment.js';
import type { ProcessLog } from './process-log.js';
import type { SeededDice } from './seeded-dice.js';

const AFTER_A_FAILURE_MS = 20;

/** Workers that keep a pool busy with short queries, transactions of 20–50 ms and some of a second; the outcome of each goes into the log. */
export class LoadWorkers {
  readonly #underWay = new Set<string>();
  #isBusy = true;
  #begun = 0;
  #done: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly pool: pg.Pool,
    private readonly processName: string,
    private readonly log: ProcessLog,
    private readonly dice: SeededDice,
  ) {}

  start({ short, transactions, long }: FleetLoad): void {
    const workers = (count: number, work: () => Promise<void>): Promise<void>[] =>
      Array.from({ length: count }, async () => {
        while (this.#isBusy) await work();
      });
    this.#done = Promise.all([
      ...workers(short, () => this.#short()),
      ...workers(transactions, () => this.#transaction('transaction', this.dice.between(20, 50), 60)),
      ...workers(long, () => this.#transaction('long transaction', 1000, 500)),
    ]);
  }

  /** Begins no more queries, and gives the kinds of those that have not ended within the limit. */
  async stop(limitMs: number): Promise<readonly string[]> {
    this.#isBusy = false;
    const limit = new AbortController();
    await Promise.race([this.#done, delay(limitMs, undefined, { signal: limit.signal })]);
    limit.abort();
    return [...this.#underWay];
  }

  async #short(): Promise<void> {
    const isWrite = this.dice.next() < 0.2;
    await this.#logged(isWrite ? 'insert' : 'select', () =>
      isWrite
        ? this.pool.query('INSERT INTO payments (process, amount) VALUES ($1, 1)', [this.processName])
        : this.pool.query('SELECT id FROM payments ORDER BY id DESC LIMIT 1'),
    );
    await delay(this.dice.between(5, 40));
  }

  async #transaction(kind: string, lastsMs: number, thinkMs: number): Promise<void> {
    await this.#logged(kind, async () => {
      const client = await this.pool.connect();
      let isBroken = true;
      try {
        await client.query('BEGIN');
        await client.query('INSERT INTO payments (process, amount) VALUES ($1, 2)', [this.processName]);
        await client.query('SELECT pg_sleep($1)', [lastsMs / 1000]);
        await client.query('COMMIT');
        isBroken = false;
      } finally {
        client.release(isBroken);
      }
    });
    await delay(this.dice.between(0, 2 * thinkMs));
  }

  async #logged(kind: string, work: () => Promise<unknown>): Promise<void> {
    this.#begun += 1;
    const name = `${kind} ${this.#begun}`;
    this.#underWay.add(name);
    const begunAt = moment();
    try {
      await work();
      this.log.query(kind, begunAt, moment());
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      this.log.query(kind, begunAt, moment(), `${code} ${error instanceof Error ? error.message : String(error)}`);
      await delay(AFTER_A_FAILURE_MS);
    } finally {
      this.#underWay.delete(name);
    }
  }
}
