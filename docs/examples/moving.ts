import { NestFactory } from '@nestjs/core';
import {
  ephemeralKeys,
  memoryStore,
  movingKeys,
  movingStore,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { moveKeys, moveStore } from './move-store-and-keys.js';

export async function main(): Promise<string[]> {
  const store = movingStore({ from: memoryStore(), to: memoryStore() });
  const keys = movingKeys({ from: ephemeralKeys(), to: ephemeralKeys() });
  const app = await NestFactory.createApplicationContext(SecretsModule.forRoot({ store, keys }), { logger: false });
  try {
    const secrets = app.get(SecretsManager);
    await secrets.createSecret('Token', 'a value');
    const said = await moveStore(store);
    const left = await moveKeys(secrets);
    const { value } = await secrets.getSecretValue<string>('Token');
    return [await store.phase(), `${said.split(' ')[1]}`, `${left.length} left`, `${value} is still there`];
  } finally {
    await app.close();
  }
}
