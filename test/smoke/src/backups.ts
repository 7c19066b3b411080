import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { exportStore, generateBackupIdentity, importStore } from '@nestjs-secrets/backup';
import { ephemeralKeys, memoryStore, SecretsManager, SecretsModule } from '@nestjs-secrets/core';

@Module({ imports: [SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() })] })
class FromModule {}

@Module({ imports: [SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotate: false })] })
class ToModule {}

/** Not under Jest in CommonJS mode, which cannot load the ES module that this package stands on. */
export async function runBackups(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-smoke-'));
  const quiet = { logger: false, abortOnError: false } as const;
  const from = await NestFactory.createApplicationContext(FromModule, quiet);
  const to = await NestFactory.createApplicationContext(ToModule, quiet);
  try {
    const { identity, recipient } = await generateBackupIdentity();
    await from.get(SecretsManager).createSecret('Mail', 'a value');
    const file = join(folder, 'backup.age');
    const { signedBy } = await exportStore(from.get(SecretsManager), { file, recipients: recipient });
    await importStore(to.get(SecretsManager), { file, identity, signedBy });
    assert.equal((await to.get(SecretsManager).getSecretValue('Mail')).value, 'a value');
  } finally {
    await from.close();
    await to.close();
    await rm(folder, { recursive: true });
  }
}
