import { inspect } from 'node:util';
import { expect } from '@jest/globals';
import { isSecretsError, type SecretsError } from '@nestjs-secrets/core';

/** A value, or a part of one, that no error may show. */
export const CANARY = 'canary-of-bad-input';

/** The one error an attempt fails with: of this code (or one of these), with words to say, and without CANARY however it is shown. */
export async function expectFailure(attempt: () => unknown, code: string | readonly string[]): Promise<SecretsError> {
  let error: unknown;
  try {
    await attempt();
  } catch (thrown) {
    error = thrown;
  }
  if (!isSecretsError(error)) throw new Error(`expected ${String(code)}, got ${inspect(error)}`);
  expect([code].flat()).toContain(error.code);
  expect(error.message.length).toBeGreaterThan(20);
  const shown = [
    inspect(error, { depth: 10, showHidden: true }),
    JSON.stringify(error),
    error.stack,
    inspect(error.cause, { depth: 10, showHidden: true }),
  ];
  expect(shown.join('\n')).not.toContain(CANARY);
  return error;
}
