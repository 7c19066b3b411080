import type { NamedRotator } from '@nestjs-secrets/core';
import { postgresAlternatingUsers, postgresSingleUser } from '@nestjs-secrets/pg';
import pg from 'pg';
import type { Configuration } from '../configuration.js';
import type { DatabaseServer } from '../database/database-server.js';
import { DATABASE_ROTATOR } from './my-db-creds.js';

const ROLE = 'myapp';

/** Acts as the administrator, whose log-in the application itself never uses. */
export async function databaseRotator(
  config: Configuration,
  { connection, admin }: DatabaseServer,
): Promise<NamedRotator> {
  const name = DATABASE_ROTATOR;
  if (config.rotationStrategy === 'alternating-users') {
    return postgresAlternatingUsers({ name, connection, admin, baseName: ROLE, roles: config.roles });
  }
  await grantToSingleUser({ ...connection, user: admin.username, password: admin.password });
  return postgresSingleUser({ name, connection, admin, username: ROLE });
}

/** A ring's owner role gets these by the rotator itself; a single user is an ordinary role, and what it may do is for us to say. */
async function grantToSingleUser(config: pg.ClientConfig): Promise<void> {
  const client = new pg.Client({ ...config, connectionTimeoutMillis: 5000 });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [ROLE]);
    if (rowCount === 0) await client.query(`CREATE ROLE ${ROLE} NOLOGIN`);
    const database = client.escapeIdentifier(config.database ?? '');
    await client.query(`GRANT CONNECT, TEMPORARY ON DATABASE ${database} TO ${ROLE}`);
    await client.query(`GRANT USAGE, CREATE ON SCHEMA public TO ${ROLE}`);
  } finally {
    await client.end();
  }
}
