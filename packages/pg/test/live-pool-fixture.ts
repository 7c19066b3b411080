import type { DatabaseCredentials } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

export { eventually, settled } from 'nestjs-secrets-test/eventually';
export { HandMadeSecret } from 'nestjs-secrets-test/hand-made-secret';

/** Log-in roles of their own for a test. */
export async function createRoles(server: PostgresServer, ...names: string[]): Promise<void> {
  for (const name of names) {
    await server.query(`CREATE ROLE "${name}" LOGIN PASSWORD 'first-password-of-${name}'`);
  }
}

export function firstCredentials(role: string): DatabaseCredentials {
  return { username: role, password: `first-password-of-${role}` };
}
