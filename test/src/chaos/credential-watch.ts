import { setTimeout as delay } from 'node:timers/promises';
import type { DatabaseCredentials, SecretsManager } from '@nestjs-secrets/core';
import pg from 'pg';
import type { Address } from './faulty-link.js';
import { BASE_NAME, CREDENTIALS } from './fleet-order.js';
import { moment } from './moment.js';

interface Sample {
  readonly at: number;
  /** When the oldest session of each role began; milliseconds since the epoch. */
  readonly oldest: ReadonlyMap<string, number>;
}

const LOOK_EVERY_MS = 150;

/**
 * Knows every credential there ever was, tries each by a real log-in once it is retired, and again at the end, and watches the sessions of the
 * roles. Reads values before they are pruned, through a manager whose way to the store nobody disturbs.
 */
export class CredentialWatch {
  readonly #values = new Map<string, DatabaseCredentials>();
  readonly #tried = new Set<string>();
  readonly #samples: Sample[] = [];
  readonly #living: string[] = [];
  readonly #stopping = new AbortController();
  #watching: Promise<void> = Promise.resolve();

  constructor(
    private readonly manager: SecretsManager,
    private readonly target: Address & { readonly database: string },
    private readonly admin: DatabaseCredentials,
  ) {}

  start(): void {
    this.#watching = this.#watch();
  }

  /** How many retired credentials were tried. */
  get tried(): number {
    return this.#tried.size;
  }

  /** Tries every retired credential once more, and tells of those that were let in at any time or kept a session. */
  async end(retirements: readonly { readonly versionId: string; readonly at: number }[]): Promise<string[]> {
    this.#stopping.abort();
    await this.#watching;
    await this.#look();
    const retired = new Map(retirements.map(({ versionId, at }) => [versionId, at]));
    const living = [...this.#living];
    for (const [versionId, value] of this.#values) {
      const at = retired.get(versionId);
      if (at === undefined) continue;
      this.#tried.add(versionId);
      if (await this.#logsIn(value)) living.push(`${versionId} logs in at the end`);
      for (const sample of this.#samples) {
        const oldest = sample.oldest.get(value.username) ?? Number.POSITIVE_INFINITY;
        if (sample.at > at && oldest < at)
          living.push(`${versionId}, retired at ${at}, had a session since ${oldest} at ${sample.at}`);
      }
    }
    return living;
  }

  async #watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      // An outage of the store keeps it from looking; what it misses comes with the next look.
      await this.#look().catch(() => undefined);
      await this.#sample().catch(() => undefined);
      await delay(LOOK_EVERY_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    for (const { versionId, state } of await this.manager.listVersions(CREDENTIALS)) {
      let value = this.#values.get(versionId);
      if (value === undefined) {
        ({ value } = await this.manager.getSecretValue<DatabaseCredentials>(CREDENTIALS, { versionId }));
        this.#values.set(versionId, value);
      }
      if (state !== 'retired' || this.#tried.has(versionId)) continue;
      this.#tried.add(versionId);
      if (await this.#logsIn(value)) this.#living.push(`${versionId} logged in after it was retired`);
    }
  }

  async #sample(): Promise<void> {
    const at = moment();
    const rows = await this.#asked<{ role: string; oldest: number }>(
      this.admin,
      `SELECT usename AS role, (extract(epoch FROM min(backend_start)) * 1000)::float8 AS oldest FROM pg_stat_activity
       WHERE usename LIKE '${BASE_NAME}%' GROUP BY usename`,
    );
    this.#samples.push({ at, oldest: new Map(rows.map(({ role, oldest }) => [role, oldest])) });
  }

  async #logsIn(credentials: DatabaseCredentials): Promise<boolean> {
    try {
      await this.#asked(credentials, 'SELECT 1');
      return true;
    } catch (error) {
      // 28P01 invalid_password, 28000 invalid_authorization_specification; anything else proves nothing.
      if (error instanceof Error && 'code' in error && (error.code === '28P01' || error.code === '28000')) return false;
      throw error;
    }
  }

  async #asked<R extends pg.QueryResultRow>({ username, password }: DatabaseCredentials, sql: string): Promise<R[]> {
    const client = new pg.Client({ ...this.target, user: username, password, application_name: 'fleet watch' });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<R>(sql)).rows;
    } finally {
      await client.end();
    }
  }
}
