import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { cryptoRandomness, Keyring, localKeyFile } from '@nestjs-secrets/core';

const run = promisify(execFile);
const read = (path: string): Promise<string> => readFile(new URL(`../../../${path}`, import.meta.url), 'utf8');

const page = await read('docs/envelope.md');
const golden = JSON.parse(await read('test/vectors/envelope-v1.json')) as {
  storeId: string;
  keyFile: unknown;
  vectors: { title: string; secretName: string; versionId: string; plaintext: string; envelope: string }[];
};

describe('docs/envelope.md', () => {
  let folder: string;
  let script: string;
  let keyFile: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-docs-'));
    script = join(folder, 'open-envelope.mjs');
    keyFile = join(folder, 'key.json');
    const blocks = [...page.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code ?? '');
    expect(blocks).toHaveLength(1);
    await writeFile(script, blocks.join(''));
    await writeFile(keyFile, JSON.stringify(golden.keyFile), { mode: 0o600 });
  });

  afterAll(() => rm(folder, { recursive: true }));

  it.each(golden.vectors)('opens by hand: $title', async ({ secretName, versionId, plaintext, envelope }) => {
    const { stdout } = await run(process.execPath, [script, keyFile, golden.storeId, secretName, versionId, envelope], {
      encoding: 'buffer',
    });
    expect(stdout.toString('base64')).toBe(plaintext);
  });

  it.each(golden.vectors.slice(0, 1))('opens none by hand in another place', async ({ versionId, envelope }) => {
    const opening = run(process.execPath, [script, keyFile, golden.storeId, 'Other', versionId, envelope]);
    await expect(opening).rejects.toThrow('unable to authenticate');
  });

  it('states the size of an envelope under a local key file', async () => {
    const provider = localKeyFile({ path: join(folder, 'own.json'), create: 'if-missing' });
    await provider.open();
    const keyring = new Keyring(provider, golden.storeId, cryptoRandomness);
    const envelope = await keyring.seal({ secretName: 'a', versionId: 'v1' }, Buffer.alloc(200));
    expect(page).toContain(`a 200-byte value becomes an envelope of ${envelope.length} bytes`);
    await provider.close();
  });
});
