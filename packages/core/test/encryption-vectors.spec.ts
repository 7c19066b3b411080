import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Keyring, type KeyProvider, localKeyFile } from '@nestjs-secrets/core';
import { seededRandomness } from './seeded-randomness.js';

interface Vectors {
  readonly storeId: string;
  readonly keyFile: unknown;
  readonly vectors: readonly {
    readonly title: string;
    readonly secretName: string;
    readonly versionId: string;
    readonly cmkVersion: number;
    readonly plaintext: string;
    readonly envelope: string;
  }[];
}

// What stands in this file was sealed once and must open for ever: never regenerate it, add to it.
const { storeId, keyFile, vectors } = JSON.parse(
  await readFile(new URL('../../../test/vectors/envelope-v1.json', import.meta.url), 'utf8'),
) as Vectors;

describe('golden envelopes of format 1', () => {
  let folder: string;
  let provider: KeyProvider;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-vectors-'));
    const path = join(folder, 'key.json');
    await writeFile(path, JSON.stringify(keyFile), { mode: 0o600 });
    provider = localKeyFile({ path, create: 'never' });
    await provider.open();
  });

  afterAll(async () => {
    await provider.close();
    await rm(folder, { recursive: true });
  });

  it.each(vectors)('opens: $title', async ({ secretName, versionId, plaintext, envelope }) => {
    const keyring = new Keyring(provider, storeId, seededRandomness('unused'));
    const opened = await keyring.open({ secretName, versionId }, Buffer.from(envelope, 'base64'));
    expect(opened.toString('base64')).toBe(plaintext);
  });

  it.each(vectors)('is still sealed byte for byte the same: $title', async (vector) => {
    const { title, secretName, versionId, cmkVersion, plaintext, envelope } = vector;
    const path = join(folder, `key-up-to-${cmkVersion}.json`);
    const all = keyFile as { versions: { version: number }[] };
    const versions = all.versions.filter(({ version }) => version <= cmkVersion);
    await writeFile(path, JSON.stringify({ ...all, versions }), { mode: 0o600 });
    const seeded = seededRandomness(title);
    const sealing = localKeyFile({ path, create: 'never' }, seeded);
    await sealing.open();
    const sealed = await new Keyring(sealing, storeId, seeded).seal(
      { secretName, versionId },
      Buffer.from(plaintext, 'base64'),
    );
    expect(sealed.toString('base64')).toBe(envelope);
    await sealing.close();
  });
});
