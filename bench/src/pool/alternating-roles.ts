import type { DatabaseCredentials } from '@nestjs-secrets/core';
import pg from 'pg';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

/** Log-in roles that take turns, their passwords set by verifiers made beforehand, so that a turn costs the server next to nothing. */
export interface AlternatingRoles {
  /** Gives the next role a password it did not have before, and tells both. */
  turn(): Promise<DatabaseCredentials>;
  close(): Promise<void>;
}

export async function createAlternatingRoles(
  server: PostgresServer,
  prefix: string,
  count = 2,
): Promise<AlternatingRoles> {
  const { host, port, database, admin } = server;
  const client = new pg.Client({ host, port, database, user: admin.username, password: admin.password });
  await client.connect();
  const turns: { credentials: DatabaseCredentials; verifier: string }[] = [];
  for (let number = 0; number < count * 2; number += 1) {
    const username = `${prefix}_${number % count}`;
    const password = `password-${number}-of-${username}`;
    if (number < count) await client.query(`CREATE ROLE ${pg.escapeIdentifier(username)} LOGIN`);
    await client.query(`ALTER ROLE ${pg.escapeIdentifier(username)} PASSWORD ${pg.escapeLiteral(password)}`);
    const { rows } = await client.query<{ verifier: string }>(
      'SELECT rolpassword AS verifier FROM pg_authid WHERE rolname = $1',
      [username],
    );
    turns.push({ credentials: { username, password }, verifier: rows[0]?.verifier ?? '' });
  }
  let turn = -1;
  return {
    async turn() {
      turn = (turn + 1) % turns.length;
      const next = turns[turn];
      if (next === undefined) throw new Error('no roles');
      const { credentials, verifier } = next;
      await client.query(
        `ALTER ROLE ${pg.escapeIdentifier(credentials.username)} PASSWORD ${pg.escapeLiteral(verifier)}`,
      );
      return credentials;
    },
    close: () => client.end(),
  };
}
