import { NestFactory } from '@nestjs/core';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule } from '@nestjs-secrets/core';

/** A master key is known to somebody: what is sealed under it moves to a new version, and the old one goes. */
export async function replaceLeakedVersion(secrets: SecretsManager, key: string, leaked: number): Promise<void> {
  await secrets.keys.rotateKey(key, { rewrap: false });
  const { failed, failures } = await secrets.keys.rewrap({ key });
  if (failed > 0) throw new Error(`these could not be opened, look at them first: ${failures.join(', ')}`);
  await secrets.keys.scheduleDestruction(key, { version: leaked, recoveryWindow: '7d' });
}

export async function main(): Promise<string[]> {
  const module = SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() });
  const app = await NestFactory.createApplicationContext(module, { logger: false });
  try {
    const secrets = app.get(SecretsManager);
    await secrets.keys.createKey({ alias: 'billing', description: 'What the billing team seals' });
    await secrets.createSecret('Invoices', 'a value', { key: 'billing' });
    await replaceLeakedVersion(secrets, 'billing', 1);
    const { versions } = await secrets.keys.describeKey('billing');
    const { value } = await secrets.getSecretValue<string>('Invoices');
    return [...versions.map(({ version, state }) => `${version} ${state}`), `${value} is still there`];
  } finally {
    await app.close();
  }
}
