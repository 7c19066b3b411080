import pg from 'pg';

const SAMPLE_EVERY_MS = 25;

/**
 * Watches from the server's side how many connections the application's roles have. The rotator's momentary log-ins to check and to disprove
 * a credential, `nestjs-secrets` by name, are not connections of the application.
 */
export class ServerWatch {
  private readonly timer: NodeJS.Timeout;
  private sampling: Promise<void> = Promise.resolve();
  private isSampling = false;
  private most = 0;

  private constructor(private readonly client: pg.Client) {
    this.timer = setInterval(() => this.sample(), SAMPLE_EVERY_MS);
  }

  static async start(adminUrl: string): Promise<ServerWatch> {
    const client = new pg.Client({ connectionString: adminUrl });
    await client.connect();
    return new ServerWatch(client);
  }

  get maxConnections(): number {
    return this.most;
  }

  forget(): void {
    this.most = 0;
  }

  async countPayments(): Promise<number> {
    const { rows } = await this.client.query<{ payments: number }>('SELECT count(*)::int AS payments FROM payments');
    return rows[0]?.payments ?? 0;
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.sampling;
    await this.client.end();
  }

  private sample(): void {
    if (this.isSampling) return;
    this.isSampling = true;
    this.sampling = this.count().finally(() => (this.isSampling = false));
  }

  private async count(): Promise<void> {
    const { rows } = await this.client.query<{ connections: number }>({
      name: 'count-connections',
      text: `SELECT count(*)::int AS connections FROM pg_stat_activity
             WHERE usename LIKE 'myapp%' AND application_name <> 'nestjs-secrets'`,
    });
    this.most = Math.max(this.most, rows[0]?.connections ?? 0);
  }
}
