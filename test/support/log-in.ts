import type { DatabaseCredentials } from '@nestjs-secrets/core';
import mysql from 'mysql2/promise';
import pg from 'pg';

interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
}

/** Runs statements in a database on a connection of their own. */
export async function runAs(
  { host, port, database }: ServerAddress,
  { username, password }: DatabaseCredentials,
  sql: string,
): Promise<void> {
  const client = new pg.Client({ host, port, database, user: username, password });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** Who a MySQL or MariaDB server says one is after a real log-in; undefined when it refuses these credentials. */
export async function logInToMysql(
  { host, port }: ServerAddress,
  { username, password }: DatabaseCredentials,
): Promise<string | undefined> {
  try {
    const client = await mysql.createConnection({ host, port, user: username, password });
    const [rows] = await client.query<mysql.RowDataPacket[]>("SELECT SUBSTRING_INDEX(USER(), '@', 1) AS name");
    await client.end();
    return String(rows[0]?.['name']);
  } catch (error) {
    // ER_ACCESS_DENIED_ERROR and ER_ACCOUNT_HAS_BEEN_LOCKED; anything else proves nothing.
    const { errno } = error as { errno?: unknown };
    if (errno === 1045 || errno === 4151) return undefined;
    throw error;
  }
}

/** Who the server says one is after a real log-in; undefined when it refuses these credentials. */
export async function logIn(
  { host, port, database }: ServerAddress,
  { username, password }: DatabaseCredentials,
): Promise<string | undefined> {
  const client = new pg.Client({ host, port, database, user: username, password });
  try {
    await client.connect();
    const { rows } = await client.query<{ session_user: string }>('SELECT session_user');
    return rows[0]?.session_user;
  } catch (error) {
    // 28P01 invalid_password, 28000 invalid_authorization_specification; anything else proves nothing.
    if (error instanceof Error && 'code' in error && (error.code === '28P01' || error.code === '28000'))
      return undefined;
    throw error;
  } finally {
    await client.end().catch(() => undefined);
  }
}
