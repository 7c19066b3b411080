import { setTimeout as delay } from 'node:timers/promises';
import { HttpJson } from './http-json.js';
import { Latencies } from './latencies.js';

const THINK_MS = 20;
const LONG_TRANSACTION_MS = 2000;

/** What the clients saw. Counts requests that began while `measuring` was true. */
export class LoadFigures {
  readonly all = new Latencies();
  readonly shortReads = new Latencies();
  readonly failures = new Map<string, number>();
  failed = 0;
  longTransactionsBegun = 0;
  longTransactionsDone = 0;
  /** Whether measured or not: every one of these must be in the database in the end. */
  acknowledgedPayments = 0;
  measuring = false;

  fail(error: unknown): void {
    this.failed += 1;
    const message = error instanceof Error ? error.message : String(error);
    this.failures.set(message, (this.failures.get(message) ?? 0) + 1);
  }
}

/** Clients that order and pay, with a pause to think after each request, until `signal` aborts; resolves when the last has its answer. */
export async function runOrderLoad(
  url: string,
  clients: number,
  figures: LoadFigures,
  signal: AbortSignal,
): Promise<void> {
  const http = new HttpJson(url);
  try {
    await Promise.all(
      Array.from({ length: clients }, (_, index) => new OrderClient(http, figures, index + 1).run(signal)),
    );
  } finally {
    http.close();
  }
}

class OrderClient {
  private readonly random: () => number;
  private readonly unpaid: number[] = [];
  private latest = 1;

  constructor(
    private readonly http: HttpJson,
    private readonly figures: LoadFigures,
    number: number,
  ) {
    this.random = seededRandom(number);
  }

  async run(signal: AbortSignal): Promise<void> {
    await delay(this.random() * 2 * THINK_MS);
    while (!signal.aborted) {
      await this.request();
      await delay(this.random() * 2 * THINK_MS);
    }
  }

  /** Of 1,000 requests 800 read, the others order and pay; 3 payments take 2 s. */
  private request(): Promise<void> {
    const dice = this.random() * 1000;
    const next = this.unpaid.at(-1);
    if (next === undefined || dice < 103) return this.measured('write', () => this.order());
    if (dice < 903) return this.measured('short read', () => this.read(dice));
    this.unpaid.pop();
    if (dice < 997) return this.measured('write', () => this.pay(next, 20 + this.random() * 30));
    return this.measured('long transaction', () => this.pay(next, LONG_TRANSACTION_MS));
  }

  private async order(): Promise<void> {
    const totalCents = 100 + Math.floor(this.random() * 10_000);
    const { id } = await this.http.send<{ id: number }>('POST', '/orders', { customer: 'a customer', totalCents });
    this.unpaid.push(id);
    this.latest = id;
  }

  private async read(dice: number): Promise<void> {
    await this.http.send('GET', dice < 803 ? `/orders/${this.latest}` : '/orders?limit=10');
  }

  private async pay(id: number, holdMs: number): Promise<void> {
    await this.http.send('POST', `/demo/orders/${id}/pay`, { holdMs });
    this.figures.acknowledgedPayments += 1;
  }

  private async measured(kind: 'short read' | 'write' | 'long transaction', send: () => Promise<void>): Promise<void> {
    const { figures } = this;
    if (!figures.measuring) return send().catch(() => undefined);
    const startedAt = performance.now();
    if (kind === 'long transaction') figures.longTransactionsBegun += 1;
    try {
      await send();
      if (kind === 'long transaction') figures.longTransactionsDone += 1;
    } catch (error) {
      figures.fail(error);
    }
    const durationMs = performance.now() - startedAt;
    figures.all.add(durationMs);
    if (kind === 'short read') figures.shortReads.add(durationMs);
  }
}

/** A linear congruential generator (the constants of Numerical Recipes), so that every run has the same mix. */
function seededRandom(seed: number): () => number {
  let state = Math.imul(seed, 2_654_435_761) >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
