import {
  cryptoRandomness,
  randomPassword,
  systemClock,
  type CreateContext,
  type DatabaseCredentials,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  type RotationNotes,
  type SecretRotator,
  type SecretVersion,
} from '@nestjs-secrets/core';
import pg from 'pg';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

const { Client } = pg;

export type Version = SecretVersion<DatabaseCredentials>;

/** A rotation as the engine would make it, one step at a time, each repeatable. */
export class HandRotation {
  notes: RotationNotes = {};
  readonly signal = new AbortController();
  pending: Version | undefined;

  constructor(
    private readonly rotator: SecretRotator<DatabaseCredentials>,
    readonly current: Version | undefined,
    private readonly busy: readonly string[] = [],
    /** Replaces `record`, to crash between an effect and its note. */
    private readonly onRecord: (notes: RotationNotes) => void = () => undefined,
  ) {}

  async create(): Promise<Version> {
    const context: CreateContext<DatabaseCredentials> = {
      ...this.base(),
      busyIdentities: new Set([...this.busy, ...(this.current === undefined ? [] : [this.current.value.username])]),
      randomPassword: (options) => randomPassword(options ?? {}, cryptoRandomness),
    };
    const value = await this.rotator.create(context);
    this.pending = { name: 'MyDbCreds', versionId: `v${Math.random()}`, value };
    return this.pending;
  }

  async apply(): Promise<void> {
    await this.rotator.apply(this.pendingContext());
  }

  async verify(): Promise<void> {
    await this.rotator.verify(this.pendingContext());
  }

  async undo(): Promise<void> {
    await this.rotator.undo?.(this.pendingContext());
  }

  /** Retires what this rotation replaced. */
  async retire(retiring: Version | undefined = this.current): Promise<RetireReport> {
    if (retiring === undefined || this.pending === undefined) throw new Error('nothing to retire');
    const context: RetireContext<DatabaseCredentials> = { ...this.base(), current: this.pending, retiring };
    const report = await this.rotator.retire(context);
    if (report === undefined) throw new Error('no report');
    return report;
  }

  /** create, apply and verify: up to the promotion. */
  async upToPromotion(): Promise<Version> {
    const pending = await this.create();
    await this.apply();
    await this.verify();
    return pending;
  }

  private base() {
    return {
      secretName: 'MyDbCreds',
      rotationId: 'r1',
      current: this.current,
      signal: this.signal.signal,
      clock: systemClock,
      notes: this.notes,
    };
  }

  private pendingContext(): PendingContext<DatabaseCredentials> {
    if (this.pending === undefined) throw new Error('nothing pending');
    return {
      ...this.base(),
      pending: this.pending,
      record: async (notes) => {
        this.onRecord(notes);
        this.notes = { ...this.notes, ...notes };
      },
    };
  }
}

export async function connectAs(server: PostgresServer, credentials: DatabaseCredentials): Promise<pg.Client> {
  const client = new Client({
    host: server.host,
    port: server.port,
    database: server.database,
    user: credentials.username,
    password: credentials.password,
    application_name: 'app under test',
  });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Runs statements as someone and answers with the rows of the last. */
export async function queryAs(
  server: PostgresServer,
  credentials: DatabaseCredentials,
  ...statements: string[]
): Promise<pg.QueryResultRow[]> {
  const client = await connectAs(server, credentials);
  try {
    let rows: pg.QueryResultRow[] = [];
    for (const statement of statements) rows = (await client.query(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}

export async function sqlStateOf(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
}

export function version(value: DatabaseCredentials): Version {
  return { name: 'MyDbCreds', versionId: 'v0', value };
}
