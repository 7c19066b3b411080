import { setTimeout as delay } from 'node:timers/promises';
import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectSecret, SecretsManager, type DatabaseCredentials, type Secret } from '@nestjs-secrets/core';
import pg from 'pg';
import { DatabaseServer } from '../database/database-server.js';
import { DATABASE_ROTATOR, myDbCreds } from '../secrets/my-db-creds.js';
import type { RetirementProof } from './messages.js';

const RETIREMENT_LIMIT_MS = 15_000;

/** Keeps every credential the application ever had, as a thief would, and tries them all in the end. No application should do that. */
@Injectable()
export class CredentialHistory implements OnApplicationBootstrap {
  private readonly credentials = new Map<string, DatabaseCredentials>();
  private readonly refusedWhenRetired = new Set<string>();
  private sessionsLeft = 0;

  constructor(
    @InjectSecret(myDbCreds) private readonly secret: Secret<DatabaseCredentials>,
    private readonly secrets: SecretsManager,
    private readonly server: DatabaseServer,
  ) {}

  onApplicationBootstrap(): void {
    this.secret.changes$.subscribe(({ versionId, value }) => this.credentials.set(versionId, value));
    this.secrets.rotationEvents$.subscribe((event) => {
      if (event.type !== 'retired' || event.report === undefined) return;
      if (event.report.refused) this.refusedWhenRetired.add(event.versionId);
      this.sessionsLeft += event.report.sessionsLeft;
    });
  }

  /** Ends the schedule, waits until everything old is retired, and tries every old credential once more. */
  async prove(): Promise<RetirementProof> {
    await this.secrets.updateRotationPolicy(myDbCreds.name, { rotator: DATABASE_ROTATOR });
    await this.allRetired();
    await this.secret.refresh();
    const old = [...this.credentials].filter(([versionId]) => versionId !== this.secret.versionId);
    let refused = 0;
    for (const [versionId, credentials] of old) {
      const isRefused = await this.isRefused(credentials);
      if (isRefused && this.refusedWhenRetired.has(versionId)) refused += 1;
    }
    return { attempted: old.length, refused, sessionsLeft: this.sessionsLeft + (await this.sessionsOfOldRoles(old)) };
  }

  private async allRetired(): Promise<void> {
    const deadline = Date.now() + RETIREMENT_LIMIT_MS;
    while (Date.now() < deadline) {
      const { rotation } = await this.secrets.describeSecret(myDbCreds.name);
      if (rotation?.step === undefined && rotation?.unretired.length === 0) return;
      await delay(50);
    }
  }

  private async isRefused(credentials: DatabaseCredentials): Promise<boolean> {
    try {
      await this.withClient(credentials, async () => undefined);
      return false;
    } catch (error) {
      // invalid_password, invalid_authorization_specification: https://www.postgresql.org/docs/current/errcodes-appendix.html
      const { code } = error as { code?: string };
      return code === '28P01' || code === '28000';
    }
  }

  /** Of single users the report of the rotator speaks: old sessions have the same role as new ones. */
  private async sessionsOfOldRoles(old: readonly (readonly [string, DatabaseCredentials])[]): Promise<number> {
    const roles = new Set(old.map(([, { username }]) => username));
    roles.delete(this.secret.value.username);
    return this.withClient(this.server.admin, async (client) => {
      const text = 'SELECT count(*)::int AS sessions FROM pg_stat_activity WHERE usename = ANY ($1)';
      const { rows } = await client.query<{ sessions: number }>(text, [[...roles]]);
      return rows[0]?.sessions ?? 0;
    });
  }

  private async withClient<R>(credentials: DatabaseCredentials, work: (client: pg.Client) => Promise<R>): Promise<R> {
    const { username: user, password } = credentials;
    const client = new pg.Client({ ...this.server.connection, user, password, connectionTimeoutMillis: 5000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return await work(client);
    } finally {
      await client.end();
    }
  }
}
