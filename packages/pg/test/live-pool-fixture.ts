import { setTimeout as delay } from 'node:timers/promises';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

export { HandMadeSecret } from 'nestjs-secrets-test/hand-made-secret';

/** Waits until a condition holds, and fails with its description when it does not within ten seconds. */
export async function eventually(description: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${description}`);
    await delay(5);
  }
}

/** Log-in roles of their own for a test. */
export async function createRoles(server: PostgresServer, ...names: string[]): Promise<void> {
  for (const name of names) {
    await server.query(`CREATE ROLE "${name}" LOGIN PASSWORD 'first-password-of-${name}'`);
  }
}

export function firstCredentials(role: string): DatabaseCredentials {
  return { username: role, password: `first-password-of-${role}` };
}

export function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return Promise.allSettled([promise]).then(([result]) => result);
}
