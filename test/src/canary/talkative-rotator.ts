import { appendFileSync } from 'node:fs';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import type { PostgresRotator } from '@nestjs-secrets/pg';

export type FailingStep = 'create' | 'apply' | 'verify' | 'retire' | 'undo';

/** An error as careless code throws it: the values in its message, its cause and its properties. */
function carelessError(step: FailingStep, values: readonly (DatabaseCredentials | undefined)[]): Error {
  const shown = JSON.stringify(values);
  const cause = Object.assign(new Error(`could not log in with ${shown}`), { connectionString: shown });
  return Object.assign(new Error(`${step} failed for ${shown}, also ${encodeURIComponent(shown)}`, { cause }), {
    query: `ALTER ROLE x PASSWORD '${values[0]?.password ?? ''}'`,
    parameters: values,
  });
}

/** A rotator that notes down the passwords it makes and fails at the steps in `failing`, telling all it knows. */
export function talkativeRotator(
  rotator: PostgresRotator,
  madeFile: string,
  failing: ReadonlySet<FailingStep>,
): PostgresRotator {
  const failAt = (step: FailingStep, values: readonly (DatabaseCredentials | undefined)[]): void => {
    if (failing.has(step)) throw carelessError(step, values);
  };
  return {
    name: rotator.name,
    identities: rotator.identities && (() => rotator.identities?.() ?? []),
    identityOf: rotator.identityOf && ((value) => rotator.identityOf?.(value) ?? ''),
    async create(context) {
      const made = await rotator.create(context);
      appendFileSync(madeFile, `${made.password}\n`);
      failAt('create', [context.current?.value]);
      return made;
    },
    async apply(context) {
      await rotator.apply(context);
      failAt('apply', [context.pending.value, context.current?.value]);
    },
    async verify(context) {
      await rotator.verify(context);
      failAt('verify', [context.pending.value, context.current?.value]);
    },
    async retire(context) {
      failAt('retire', [context.retiring.value, context.current.value]);
      return rotator.retire(context);
    },
    async undo(context) {
      failAt('undo', [context.pending.value, context.current?.value]);
      await rotator.undo?.(context);
    },
  };
}
