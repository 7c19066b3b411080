import { join } from 'node:path';
import { exportStore } from '@nestjs-secrets/backup';
import type { SecretsManager } from '@nestjs-secrets/core';

/** In the application, every hour: whoever reads its disk reads no backup. */
export async function backUp(secrets: SecretsManager, folder: string, recipient: string) {
  const file = join(folder, `secrets-${new Date().toISOString().replaceAll(':', '')}.age`);
  const { signedBy, secrets: count, leftOut } = await exportStore(secrets, { file, recipients: recipient });
  return { file, signedBy, count, isComplete: leftOut.length === 0 };
}
