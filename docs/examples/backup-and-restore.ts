import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { exportStore, generateBackupIdentity, importStore, inspectBackup } from '@nestjs-secrets/backup';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule } from '@nestjs-secrets/core';

/** In the application, every hour: whoever reads its disk reads no backup. */
export async function backUp(secrets: SecretsManager, folder: string, recipient: string) {
  const file = join(folder, `secrets-${new Date().toISOString().replaceAll(':', '')}.age`);
  const { signedBy, secrets: count, leftOut } = await exportStore(secrets, { file, recipients: recipient });
  return { file, signedBy, count, isComplete: leftOut.length === 0 };
}

/** On another machine, where the identity is: into an empty store, before any application starts on it. */
export async function restore(secrets: SecretsManager, file: string, identity: string, signedBy: string) {
  const { createdAt, leftOut } = await inspectBackup({ file, identity, signedBy });
  const { imported, missingKeys } = await importStore(secrets, { file, identity, signedBy });
  return { createdAt, imported, look: [...leftOut.map(({ secretName }) => secretName), ...missingKeys] };
}

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
