import { importStore, inspectBackup } from '@nestjs-secrets/backup';
import type { SecretsManager } from '@nestjs-secrets/core';

/** On another machine, where the identity is: into an empty store, before any application starts on it. */
export async function restore(secrets: SecretsManager, file: string, identity: string, signedBy: string) {
  const { createdAt, leftOut } = await inspectBackup({ file, identity, signedBy });
  const { imported, missingKeys } = await importStore(secrets, { file, identity, signedBy });
  return { createdAt, imported, look: [...leftOut.map(({ secretName }) => secretName), ...missingKeys] };
}
