import type { INestApplicationContext } from '@nestjs/common';
import { getSecretToken, type Secret, secretLink, SecretsManager } from '@nestjs-secrets/core';
import { filter, firstValueFrom } from 'rxjs';
import { CREDENTIALS } from '../crash/rotating-app.js';
import { Consumer, type Failing, LEASED_KEY, MADE_KEY } from './canary-app.js';
import type { CanaryOrder } from './canary-order.js';
import { carelessError } from './careless-error.js';
import { show, showBare, showFailure } from './talkative.js';

export async function callListener(app: INestApplicationContext, { canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  show('put', await manager.putSecretValue('ApiKey', { key: canaries.put }, { versionId: 'mine' }));
  await app.get(Consumer).apiKey.refresh();
  await manager.putSecretValue('ApiKey', { key: canaries.conflicting });
  await app.get(Consumer).apiKey.refresh();
}

export async function useManager(app: INestApplicationContext, { canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  showBare('get', await manager.getSecretValue('ApiKey'));
  show('describe', await manager.describeSecret('ApiKey'));
  show('list', await manager.listSecrets());
  show('versions', await manager.listVersions('ApiKey'));
  await showFailure('schema mismatch', () =>
    manager.putSecretValue('ApiKey', { key: [canaries.misfit], [canaries.misfit]: canaries.misfit }),
  );
  await showFailure('too large', () =>
    manager.putSecretValue('ApiKey', { key: canaries.oversized.padEnd(70_000, '.') }),
  );
  await manager.putSecretValue('ApiKey', { key: canaries.put }, { versionId: 'conflicting' });
  await showFailure('conflict', () =>
    manager.putSecretValue('ApiKey', { key: canaries.conflicting }, { versionId: 'conflicting' }),
  );
  const unprintable = {
    toJSON(): never {
      throw carelessError('toJSON', [canaries.misfit]);
    },
  };
  await showFailure('no JSON', () => manager.createSecret('Unprintable', unprintable));
  await showFailure('exists', () => manager.createSecret('ApiKey', { key: canaries.conflicting }));
}

export async function failToCreate(app: INestApplicationContext, { steps: failing }: Failing): Promise<void> {
  failing.add('create');
  await showFailure('create fails', () => app.get(SecretsManager).rotateSecret(CREDENTIALS));
  failing.clear();
}

export async function rotateWithFailures(app: INestApplicationContext, { steps: failing }: Failing): Promise<void> {
  const manager = app.get(SecretsManager);
  show('rotated', await manager.rotateSecret(CREDENTIALS, { until: 'retired' }));
  for (const step of ['apply', 'verify'] as const) {
    failing.add(step);
    await showFailure(`${step} fails`, () => manager.rotateSecret(CREDENTIALS));
    failing.delete(step);
  }
  failing.add('verify').add('undo');
  await showFailure('undo fails', () => manager.rotateSecret(CREDENTIALS));
  const undone = firstValueFrom(manager.rotationEvents$.pipe(filter(({ type }) => type === 'undone')));
  failing.clear();
  await undone;
  // The event comes while the rotation that was undone is still ending; a request in the same turn would join it.
  await new Promise((resolve) => setImmediate(resolve));
  failing.add('retire');
  const refused = firstValueFrom(
    manager.rotationEvents$.pipe(filter((event) => event.type === 'failed' && event.step === 'retire')),
  );
  await manager.rotateSecret(CREDENTIALS);
  await refused;
  failing.clear();
  show('rotated', await manager.rotateSecret(CREDENTIALS, { until: 'retired' }));
}

/** A new key that a consumer holds back and reports as refused: it is looked at again, found wanting, and the one before is put back. */
export async function rollBack(app: INestApplicationContext, { keys: failing }: Failing): Promise<void> {
  const manager = app.get(SecretsManager);
  const key = app.get<Secret>(getSecretToken(MADE_KEY), { strict: false });
  const link = secretLink(key);
  const first = key.versionId;
  const attachment = link.attach({ label: 'a consumer', holds: () => [first] });
  await manager.rotateSecret(MADE_KEY);
  await key.refresh();
  const undoFails = firstValueFrom(
    manager.rotationEvents$.pipe(filter((event) => event.type === 'failed' && event.secretName === MADE_KEY)),
  );
  const back = firstValueFrom(manager.rotationEvents$.pipe(filter(({ type }) => type === 'rolled-back')));
  failing.add('verify').add('undo');
  link.report({ versionId: key.versionId, kind: 'authentication', code: '28P01', consumer: 'a consumer' });
  show('undo of a rollback fails', await undoFails);
  failing.delete('undo');
  show('rolled back', await back);
  failing.clear();
  attachment.detach();
}

export async function failToRenew(app: INestApplicationContext, { keys: failing }: Failing): Promise<void> {
  const manager = app.get(SecretsManager);
  const failed = manager.rotationEvents$.pipe(
    filter((event) => event.type === 'failed' && event.message.includes('lease')),
  );
  const refused = firstValueFrom(failed);
  failing.add('renew');
  showBare('leased', app.get<Secret>(getSecretToken(LEASED_KEY), { strict: false }));
  show('renew fails', await refused);
  failing.clear();
}
