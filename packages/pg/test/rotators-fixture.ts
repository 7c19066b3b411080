import type { DatabaseCredentials } from '@nestjs-secrets/core';
import pg from 'pg';
import type { Version } from 'nestjs-secrets-test/hand-rotation';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

export { HandRotation, type Version } from 'nestjs-secrets-test/hand-rotation';

const { Client } = pg;

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
