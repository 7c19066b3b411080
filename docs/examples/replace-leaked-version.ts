import type { SecretsManager } from '@nestjs-secrets/core';

/** A master key is known to somebody: what is sealed under it moves to a new version, and the old one goes. */
export async function replaceLeakedVersion(secrets: SecretsManager, key: string, leaked: number): Promise<void> {
  await secrets.keys.rotateKey(key, { rewrap: false });
  const { failed, failures } = await secrets.keys.rewrap({ key });
  if (failed > 0) throw new Error(`these could not be opened, look at them first: ${failures.join(', ')}`);
  await secrets.keys.scheduleDestruction(key, { version: leaked, recoveryWindow: '7d' });
}
