import { NestFactory } from '@nestjs/core';
import {
  ephemeralKeys,
  memoryStore,
  movingKeys,
  movingStore,
  type MovingStore,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';

/** What an operator has one process do, once all of them know of the move. */
export async function moveStore(store: MovingStore): Promise<string> {
  const { entries, frozenMs } = await store.move();
  return `${entries} entries, commits waited for ${Math.round(frozenMs)} ms`;
}

/** The same for master keys; says what still needs the old provider. */
export async function moveKeys(secrets: SecretsManager): Promise<readonly string[]> {
  const { left } = await secrets.keys.move();
  return left;
}

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
