import type { INestApplicationContext } from '@nestjs/common';
import {
  principalOf,
  SecretsHealthIndicator,
  SecretsManager,
  secretResource,
  StoreIntegrity,
  type LifecycleEvent,
} from '@nestjs-secrets/core';
import { filter, firstValueFrom, type Observable } from 'rxjs';
import { CREDENTIALS, partsAt } from '../crash/rotating-app.js';
import type { CanaryOrder } from './canary-order.js';
import { show, showFailure } from './talkative.js';

/** Shows whatever tells of what goes on, and what health makes of it each time. */
export function watchEvents(app: INestApplicationContext): void {
  const manager = app.get(SecretsManager);
  const health = app.get(SecretsHealthIndicator);
  const streams: Readonly<Record<string, Observable<unknown>>> = {
    'rotation event': manager.rotationEvents$,
    'lifecycle event': manager.lifecycleEvents$,
    'key event': manager.keys.events$,
    'integrity event': app.get(StoreIntegrity).events$,
    anomaly: manager.audit.anomalies$,
  };
  for (const [what, events] of Object.entries(streams)) {
    events.subscribe((event) => {
      show(what, event);
      show('health', health.check());
    });
  }
}

/** Master keys are made, rotated, taken away and given back, over a value that is sealed under them. */
export async function turnKeys(app: INestApplicationContext, { canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  const { keys } = manager;
  show('key made', await keys.createKey({ alias: 'canaries', description: 'of canaries' }));
  await manager.createSecret('UnderOwnKey', { text: canaries.put }, { key: 'canaries' });
  show('key rotated', await keys.rotateKey('canaries'));
  show('rewrap report', await keys.rewrap('all'));
  show('keys', await keys.listKeys());
  await keys.disable('canaries');
  await showFailure('key disabled', () => manager.getSecretValue('UnderOwnKey'));
  await keys.enable('canaries');
  await showFailure('key in use', () => keys.scheduleDestruction('canaries'));
  show('key to be destroyed', await keys.scheduleDestruction('canaries', { shred: true }));
  show('key kept', await keys.cancelDestruction('canaries'));
}

/** Versions expire and are destroyed, a secret is deleted and comes back, and is deleted for good. */
export async function comeToEnds(app: INestApplicationContext, { canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  const told = (type: LifecycleEvent['type']): Promise<LifecycleEvent> =>
    firstValueFrom(manager.lifecycleEvents$.pipe(filter((event) => event.type === type)));
  const expired = told('expired');
  await manager.createSecret('ShortLived', { text: canaries.put }, { ttl: '1s' });
  show('expired', await expired);
  await showFailure('value expired', () => manager.getSecretValue('ShortLived'));
  for (const text of [canaries.conflicting, canaries.initial])
    await manager.putSecretValue('ShortLived', { text }, { ttl: '30d' });
  show('destroyed', await manager.destroyVersion('ShortLived', 'v1'));
  show('deleted', await manager.deleteSecret('ShortLived'));
  await showFailure('secret deleted', () => manager.getSecretValue('ShortLived'));
  show('restored', await manager.restoreSecret('ShortLived'));
  await manager.deleteSecret('ShortLived', { force: true });
}

/** What operators ask for, and what they are told once somebody has written to the store and a stranger has tried every door. */
export async function askForReports(app: INestApplicationContext, { place, canaries }: CanaryOrder): Promise<void> {
  const manager = app.get(SecretsManager);
  if (place.strategy === 'alternating-users')
    show('rehearsal', await manager.rotateSecret(CREDENTIALS, { dryRun: true }));
  const stranger = principalOf('operator', 'stranger');
  for (let attempt = 1; attempt <= 5; attempt += 1)
    await showFailure('denied', () => manager.as(stranger).getSecretValue('ApiKey'));
  show('simulation', await manager.policies.simulate(stranger, 'secrets:GetSecretValue', secretResource('ApiKey')));

  await manager.createSecret('Damaged', { text: canaries.put });
  const { store } = partsAt(place);
  await store.open();
  const key = 'value/Damaged:v1';
  const value = Uint8Array.from((await store.get(key))?.value ?? []);
  value[value.length - 1] = (value.at(-1) ?? 0) ^ 1;
  await store.commit({ conditions: [], writes: [{ key, value }] });
  await store.close();
  await showFailure('damaged', () => manager.getSecretValue('Damaged'));
  show('store verification', await app.get(StoreIntegrity).verifyStore());
  show('audit page', await manager.audit.lookupEvents());
  show('readers', await manager.audit.whoRead('ApiKey', 0));
  show('audit verification', await manager.audit.verify());
  show('rotation state', await manager.describeSecret(CREDENTIALS));
}
