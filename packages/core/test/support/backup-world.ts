import type { BackupContent, BackupSummary, SecretsManager } from '@nestjs-secrets/core';

export interface Exported {
  readonly bytes: Buffer;
  readonly summary: BackupSummary;
}

/** The contents of a store, as they would go into a file. */
export async function exported(manager: SecretsManager): Promise<Exported> {
  const chunks: Buffer[] = [];
  const summary = await manager.backup.exportStore(async (content) => {
    // Chunks are zeroed once the next one is asked for.
    for await (const chunk of content) chunks.push(Buffer.from(chunk));
  });
  return { bytes: Buffer.concat(chunks), summary };
}

/** Bytes in chunks of a size, fresh ones each time. */
export function contentOf(bytes: Uint8Array, size = 1000): BackupContent {
  return async function* () {
    for (let at = 0; at < bytes.length; at += size) yield Uint8Array.from(bytes.subarray(at, at + size));
  };
}
