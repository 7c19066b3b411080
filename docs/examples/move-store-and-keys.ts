import type { MovingStore, SecretsManager } from '@nestjs-secrets/core';

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
