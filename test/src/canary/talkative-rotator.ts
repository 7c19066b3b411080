import { appendFileSync } from 'node:fs';
import type { DatabaseCredentials, SecretRotator } from '@nestjs-secrets/core';
import type { DatabaseRotator } from '../crash/target-kinds.js';
import { carelessError } from './careless-error.js';

export type FailingStep = 'create' | 'apply' | 'verify' | 'retire' | 'undo';

/** What logs the values of a step, while there is one. */
export interface Gossip {
  say?: (values: readonly unknown[]) => void;
}

/** A rotator that notes down the passwords it makes, gossips, and fails at the steps in `failing`, telling all it knows. */
export function talkativeRotator(
  rotator: DatabaseRotator,
  madeFile: string,
  failing: ReadonlySet<FailingStep>,
  gossip: Gossip,
): DatabaseRotator {
  return { name: rotator.name, ...talkative(rotator, madeFile, failing, gossip) };
}

function talkative(
  rotator: SecretRotator<DatabaseCredentials>,
  madeFile: string,
  failing: ReadonlySet<FailingStep>,
  gossip: Gossip,
): SecretRotator<DatabaseCredentials> {
  const failAt = (step: FailingStep, values: readonly (DatabaseCredentials | undefined)[]): void => {
    gossip.say?.(values);
    if (failing.has(step)) throw carelessError(step, values);
  };
  return {
    strategy: rotator.strategy,
    identities: rotator.identities && (() => rotator.identities?.() ?? []),
    identityOf: rotator.identityOf && ((value) => rotator.identityOf?.(value) ?? ''),
    rehearsal: rotator.rehearsal && (() => talkative(rotator.rehearsal?.() ?? rotator, madeFile, failing, gossip)),
    async create(context) {
      const made = await rotator.create(context);
      appendFileSync(madeFile, `${made.password}\n`);
      gossip.say?.([made]);
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
