import { appendFileSync } from 'node:fs';
import type { NamedRotator, SecretRotator } from '@nestjs-secrets/core';
import { carelessError } from './careless-error.js';

export interface MadeKey {
  readonly key: string;
}

export type FailingKeyStep = 'verify' | 'undo' | 'renew';

/** Makes keys for a service that takes any, all of one identity; fails where it is told to, for the newest key only, telling all it knows. */
export function talkativeKeys(
  name: string,
  madeFile: string,
  failing: ReadonlySet<FailingKeyStep>,
  strategy: 'single-user' | 'lease',
): NamedRotator {
  let newest = '';
  const rotator: SecretRotator<MadeKey> = {
    strategy,
    identityOf: () => 'the only one',
    create({ randomPassword }) {
      const key = randomPassword();
      appendFileSync(madeFile, `${key}\n`);
      newest = key;
      return { key };
    },
    apply: () => undefined,
    verify({ pending, current }) {
      if (failing.has('verify') && pending.value.key === newest)
        throw carelessError('verify', [pending.value, current?.value]);
    },
    retire: () => ({ refused: true, sessionsEnded: 0, sessionsLeft: 0 }),
    undo({ pending, current }) {
      if (failing.has('undo')) throw carelessError('undo', [pending.value, current?.value]);
    },
    renew({ current }) {
      if (failing.has('renew')) throw carelessError('renew', [current.value]);
    },
  };
  return { ...(rotator as SecretRotator), name };
}
