import { execFile, execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { checkpointVerifier, openCheckpoint } from '@nestjs-secrets/core';
import { AuditWorld, KEY, ORIGIN, read, SIGNER } from './support/audit-world.js';

const run = promisify(execFile);
const page = await readFile(new URL('../../../docs/audit.md', import.meta.url), 'utf8');
const scripts = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, code]) => code ?? '');
const mustRun = process.env['REQUIRE_SERVERS'] === '1' || process.env['CI'] === 'true';
const missing = ['bash', 'openssl', 'jq', 'tac'].filter((program) => !isThere(program));
if (missing.length > 0 && !mustRun) {
  process.stderr.write(
    `skipped: verification by hand, which needs ${missing.join(', ')} (Debian packages openssl, jq, bash, coreutils)\n`,
  );
}
const withTools = missing.length > 0 && !mustRun ? it.skip : it;

function isThere(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe('verification by hand, as docs/audit.md has it', () => {
  let world: AuditWorld;
  let environment: Record<string, string>;

  beforeEach(async () => {
    world = await AuditWorld.create();
    const publicKey = join(world.home, 'public.pem');
    await writeFile(publicKey, SIGNER.publicKeyPem);
    environment = {
      PATH: process.env['PATH'] ?? '',
      FOLDER: world.folder,
      ORIGIN,
      CHECKPOINTS: world.elsewhere,
      PUBLIC_KEY: publicKey,
      KEY: KEY.toString('hex'),
      TMPDIR: world.home,
    };
    const log = await world.open({ maxFileBytes: 2500 });
    for (let count = 0; count < 3; count += 1) await log.record(read(`ä"\\ ,"mac":"${count}`));
    await Promise.all(Array.from({ length: 8 }, (_, index) => log.record(read(`Secret${index}`))));
    await log.record(read('Last'));
    await log.close();
  });
  afterEach(() => world.remove());

  const byHand = (script = ''): Promise<{ stdout: string }> => run('bash', ['-c', script], { env: environment });

  withTools('finds nothing where nothing is', async () => {
    expect(scripts).toHaveLength(2);
    expect((await world.files()).length).toBeGreaterThan(1);
    expect((await byHand(scripts[0])).stdout).toMatch(/checkpoint: 12 records\n$/);
    expect((await byHand(scripts[1])).stdout).toBe('chain: 12 records\n');
  });

  withTools('finds a changed record, with the key and without', async () => {
    const file = join(world.folder, (await world.files())[0] ?? '');
    await writeFile(file, (await readFile(file, 'utf8')).replace('GetSecretValue', 'GetSecretXalue'));
    await expect(byHand(scripts[0])).rejects.toMatchObject({
      stdout: expect.stringContaining('are not those of the checkpoint'),
    });
    await expect(byHand(scripts[1])).rejects.toMatchObject({
      stdout: expect.stringMatching(/changed, behind record 0/),
    });
  });

  withTools('finds a checkpoint that somebody else signed', async () => {
    await writeFile(world.elsewhere, (await readFile(world.elsewhere, 'utf8')).replaceAll('\nnumber ', '\nnumber 1'));
    await expect(byHand(scripts[0])).rejects.toMatchObject({ stdout: expect.stringContaining('Failure') });
  });
});

describe('signed notes', () => {
  // The example of the Elixir package signed_note and of Go's golang.org/x/mod/sumdb/note: a note of others must open alike.
  const VERIFIER_KEY = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k';
  const SIGNATURE =
    '— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n';

  it('of others are told by their signature: this one is genuine, and no checkpoint', () => {
    const verifiers = [checkpointVerifier(VERIFIER_KEY)];
    expect(() => openCheckpoint(`This is an example message.\n\n${SIGNATURE}`, verifiers)).toThrow(
      'not a checkpoint of an audit log',
    );
    expect(() => openCheckpoint(`This is another message.\n\n${SIGNATURE}`, verifiers)).toThrow(
      'example.com/foo that is wrong',
    );
  });

  it('are signed by name and key: neither may be another', () => {
    expect(() => checkpointVerifier(VERIFIER_KEY.replace('foo', 'bar'))).toThrow('not the verifier key');
    expect(SIGNER.verifierKey.startsWith(`${ORIGIN}+`)).toBe(true);
  });
});
