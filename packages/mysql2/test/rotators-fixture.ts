import type { DatabaseCredentials } from '@nestjs-secrets/core';
import mysql, { type Connection } from 'mysql2/promise';
import type { Version } from 'nestjs-secrets-test/hand-rotation';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';

export { HandRotation, type Version } from 'nestjs-secrets-test/hand-rotation';

export type Row = Record<string, unknown>;

export async function connectAs(server: MariadbServer, credentials: DatabaseCredentials): Promise<Connection> {
  const { host, port } = server;
  const { username: user, password } = credentials;
  const connection = await mysql.createConnection({ host, port, user, password });
  connection.on('error', () => undefined);
  return connection;
}

/** Runs statements as someone and answers with the rows of the last. */
export async function queryAs(
  server: MariadbServer,
  credentials: DatabaseCredentials,
  ...statements: string[]
): Promise<Row[]> {
  const connection = await connectAs(server, credentials);
  try {
    let rows: unknown = [];
    for (const statement of statements) [rows] = await connection.query(statement);
    return rows as Row[];
  } finally {
    await connection.end();
  }
}

/** The server's error number, or `yes` where there was no error. */
export async function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return 'yes';
  } catch (error) {
    return (error as { errno?: unknown }).errno;
  }
}

export function version(value: DatabaseCredentials): Version {
  return { name: 'MyDbCreds', versionId: 'v0', value };
}

/** The users that exist, roles left out. */
export async function usersLike(server: MariadbServer, prefix: string): Promise<string[]> {
  const rows = await server.query<{ u: string }>(
    "SELECT User AS u FROM mysql.user WHERE LEFT(User, CHAR_LENGTH(?)) = ? AND Host <> '' ORDER BY 1",
    [prefix, prefix],
  );
  return rows.map(({ u }) => u);
}

/** A name as it stands in SQL. */
export const quoted = (name: string): string => `\`${name.replaceAll('`', '``')}\``;
