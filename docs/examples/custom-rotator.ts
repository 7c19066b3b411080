import { NestFactory } from '@nestjs/core';
import {
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  memoryStore,
  type Secret,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { type ApiKey, ApiKeyRotator, OrdersApi } from './api-key-rotator.js';
import { ApiKeyService } from './api-key-service.js';

const FIRST_KEY: ApiKey = { id: 'first', key: 'made-by-hand-in-the-console' };

const apiKey = defineSecret<ApiKey>('OrdersApiKey', undefined, {
  initial: () => FIRST_KEY,
  rotation: { rotator: 'orders-api/key', schedule: { cron: '0 3 * * *', timeZone: 'Europe/Berlin' } },
});

export interface CustomRotation {
  readonly steps: readonly string[];
  /** What the service answers to the key that was current at first, and to the one that is current now. */
  readonly oldKey: number;
  readonly newKey: number;
  readonly keysLeft: number;
}

export async function main(): Promise<CustomRotation> {
  const service = new ApiKeyService();
  service.keys.set(FIRST_KEY.id, FIRST_KEY.key);
  const url = await service.start();
  class ClientModule {}
  const app = await NestFactory.createApplicationContext(
    {
      module: ClientModule,
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature([apiKey]),
      ],
      providers: [OrdersApi, ApiKeyRotator],
    },
    { logger: false },
  );
  const [manager, api] = [app.get(SecretsManager), app.get(OrdersApi)];
  api.url = url;

  const steps: string[] = [];
  manager.rotationEvents$.subscribe((event) => {
    if (event.type === 'step') steps.push(event.step);
  });
  await manager.rotateSecret('OrdersApiKey', { until: 'retired' });

  const current = app.get<Secret<ApiKey>>(getSecretToken(apiKey), { strict: false });
  const { signal } = new AbortController();
  const [oldKey, newKey] = [await api.tryKey(FIRST_KEY, signal), await api.tryKey(current.value, signal)];
  await app.close();
  await service.stop();
  return { steps, oldKey, newKey, keysLeft: service.keys.size };
}
