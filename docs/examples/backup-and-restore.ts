import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { generateBackupIdentity } from '@nestjs-secrets/backup';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import { backUp } from './back-up.js';
import { restore } from './restore-backup.js';

export async function main() {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-example-'));
  const open = () =>
    NestFactory.createApplicationContext(
      SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotate: false }),
      { logger: false },
    );
  const [before, after] = [await open(), await open()];
  try {
    const { identity, recipient } = await generateBackupIdentity();
    await before.get(SecretsManager).createSecret('SmtpLogin', 'a value');
    const { file, signedBy, isComplete } = await backUp(before.get(SecretsManager), folder, recipient);
    const { imported, look } = await restore(after.get(SecretsManager), file, identity, signedBy);
    const { value } = await after.get(SecretsManager).getSecretValue<string>('SmtpLogin');
    return { isComplete, imported, look, value };
  } finally {
    await before.close();
    await after.close();
    await rm(folder, { recursive: true });
  }
}
