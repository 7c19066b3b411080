import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Keyring, cryptoRandomness, localKeyFile } from '@nestjs-secrets/core';

interface Vectors {
  readonly storeId: string;
  readonly keyFile: unknown;
  readonly vectors: readonly {
    readonly secretName: string;
    readonly versionId: string;
    readonly plaintext: string;
    readonly envelope: string;
  }[];
}

/** Opens every golden envelope; answers how many there were. */
export async function openGoldenVectors(file: string): Promise<number> {
  const { storeId, keyFile, vectors } = JSON.parse(await readFile(file, 'utf8')) as Vectors;
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-smoke-'));
  try {
    const path = join(folder, 'key.json');
    await writeFile(path, JSON.stringify(keyFile), { mode: 0o600 });
    const provider = localKeyFile({ path, create: 'never' });
    await provider.open();
    const keyring = new Keyring(provider, storeId, cryptoRandomness);
    for (const { secretName, versionId, plaintext, envelope } of vectors) {
      const opened = await keyring.open({ secretName, versionId }, Buffer.from(envelope, 'base64'));
      assert.equal(opened.toString('base64'), plaintext);
    }
    await provider.close();
  } finally {
    await rm(folder, { recursive: true });
  }
  return vectors.length;
}
