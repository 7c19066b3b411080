import { NestFactory } from '@nestjs/core';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import { replaceLeakedVersion } from './replace-leaked-version.js';

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
