import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { checkpointKeyFile } from '@nestjs-secrets/core';
import { AuditWorld, failureOf } from './support/audit-world.js';

let world: AuditWorld;
let path: string;
let nodeEnv: string | undefined;

beforeEach(async () => {
  world = await AuditWorld.create();
  path = join(world.home, 'keys', 'checkpoints.pem');
  nodeEnv = process.env.NODE_ENV;
});
afterEach(async () => {
  process.env.NODE_ENV = nodeEnv;
  await world.remove();
});

describe('checkpointKeyFile', () => {
  it('makes a key only its owner may use, once, also when several start at once', async () => {
    const signers = await Promise.all(
      Array.from({ length: 4 }, () => checkpointKeyFile({ path, name: 'log.example.com' })),
    );
    expect(new Set(signers.map(({ verifierKey }) => verifierKey)).size).toBe(1);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readFile(path, 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY-----/);
    expect(inspect(signers[0], { depth: 9 })).not.toContain('PRIVATE KEY');
  });

  it('makes none in production', async () => {
    process.env.NODE_ENV = 'production';
    const error = await failureOf(checkpointKeyFile({ path, name: 'log.example.com' }));
    expect(error.code).toBe('CHECKPOINT_KEY_MISSING');
    expect(error.message).toContain('openssl genpkey -algorithm ed25519');
  });

  it('takes one that openssl made, or says what is wrong with what is there', async () => {
    await mkdir(join(world.home, 'keys'));
    for (const [kind, code] of [
      ['-algorithm ed25519', undefined],
      ['-algorithm x25519', 'CHECKPOINT_KEY_INVALID'],
    ] as const) {
      execFileSync('openssl', ['genpkey', ...kind.split(' '), '-out', path]);
      await chmod(path, 0o600);
      const opening = checkpointKeyFile({ path, name: 'log.example.com' });
      if (code === undefined) expect((await opening).verifierKey).toContain('log.example.com+');
      else expect((await failureOf(opening)).code).toBe(code);
    }
    await writeFile(path, 'canary');
    const error = await failureOf(checkpointKeyFile({ path, name: 'log.example.com' }));
    expect(error).toMatchObject({ code: 'CHECKPOINT_KEY_INVALID' });
    expect(error.message).not.toContain('canary');
    await chmod(path, 0o640);
    expect((await failureOf(checkpointKeyFile({ path, name: 'log.example.com' }))).code).toBe('CHECKPOINT_KEY_EXPOSED');
  });
});
