import type { DatabaseCredentials } from '@nestjs-secrets/core';
import mysql from 'mysql2';
import type { PoolConnection, RowDataPacket } from 'mysql2';
import { HandMadeSecret } from 'nestjs-secrets-test/hand-made-secret';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { LiveMysqlPool } from '../src/pool/index.js';
import type { LiveMysqlPoolConfig } from '../src/pool/index.js';

export { eventually, settled } from 'nestjs-secrets-test/eventually';
export { HandMadeSecret };

/** Users of their own for a test, who may do everything in the server's database. */
export async function createUsers(server: MariadbServer, ...names: string[]): Promise<void> {
  for (const name of names) {
    await server.query(`CREATE USER '${name}'@'%' IDENTIFIED BY 'first-password-of-${name}'`);
    await server.query(`GRANT ALL ON ${server.database}.* TO '${name}'@'%'`);
  }
}

export async function setPassword(server: MariadbServer, user: string, password: string): Promise<void> {
  await server.query(`ALTER USER '${user}'@'%' IDENTIFIED BY '${password}'`);
}

export async function lock(server: MariadbServer, user: string): Promise<void> {
  await server.query(`ALTER USER '${user}'@'%' ACCOUNT LOCK`);
}

export async function unlock(server: MariadbServer, user: string): Promise<void> {
  await server.query(`ALTER USER '${user}'@'%' ACCOUNT UNLOCK`);
}

export function firstCredentials(user: string): DatabaseCredentials {
  return { username: user, password: `first-password-of-${user}` };
}

/** How many sessions users whose name begins like this have at the server. */
export async function sessionsOf(server: MariadbServer, prefix: string): Promise<number> {
  const sessions = await server.query('SELECT 1 FROM information_schema.PROCESSLIST WHERE user LIKE ?', [`${prefix}%`]);
  return sessions.length;
}

export interface PoolOnSecret {
  readonly pool: LiveMysqlPool;
  readonly secret: HandMadeSecret;
}

export function createPool(
  server: MariadbServer,
  value: DatabaseCredentials,
  config: LiveMysqlPoolConfig = {},
): PoolOnSecret {
  const { host, port, database } = server;
  const secret = new HandMadeSecret('v1', value);
  return { secret, pool: new LiveMysqlPool(secret, { host, port, database, ...config }) };
}

export function borrow(pool: mysql.Pool): Promise<PoolConnection> {
  return new Promise((resolve, reject) => {
    pool.getConnection((error, connection) => (error ? reject(error) : resolve(connection)));
  });
}

export const borrowAll = (pool: mysql.Pool, count: number): Promise<PoolConnection[]> =>
  Promise.all(Array.from({ length: count }, () => borrow(pool)));

/** Makes the pool open so many connections, and leaves them idle. */
export async function fill(pool: mysql.Pool, count: number): Promise<void> {
  for (const connection of await borrowAll(pool, count)) connection.release();
}

/** The rows of a statement, on a pool or on one connection. */
export async function rowsOf(
  on: mysql.Pool | PoolConnection,
  sql: string,
  values: (string | number)[] = [],
): Promise<RowDataPacket[]> {
  const [rows] = await on.promise().query<RowDataPacket[]>(sql, values);
  return rows;
}

export async function whoAmI(on: mysql.Pool | PoolConnection): Promise<unknown> {
  const [row] = await rowsOf(on, `SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS name`);
  return row?.['name'];
}
