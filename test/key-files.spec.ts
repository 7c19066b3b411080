import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { localKeyFile, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { BootedApps } from './support/booted-apps.js';
import { CANARY, expectFailure } from './support/expect-failure.js';

const apps = new BootedApps();
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-key-files-'));
});
afterEach(async () => {
  await apps.closeAll();
  await rm(folder, { recursive: true, force: true });
});

describe('a store whose key file is not as it should be', () => {
  const keyFile = (): string => path.join(folder, 'keys', 'local.key');
  const start = (keys = localKeyFile({ path: keyFile() })): Promise<INestApplicationContext> =>
    apps.boot(SecretsModule.forRoot({ store: sqliteStore({ path: path.join(folder, 'secrets.db') }), keys }));

  beforeEach(async () => {
    const app = await start();
    await app.get(SecretsManager).createSecret('Token', CANARY);
    await app.close();
  });
  afterEach(async () => {
    expect((await (await start()).get(SecretsManager).getSecretValue('Token')).value).toBe(CANARY);
  });

  it('missing: KEY_FILE_MISSING', async () => {
    const gone = path.join(folder, 'gone.key');
    await expectFailure(() => start(localKeyFile({ path: gone, create: 'never' })), 'KEY_FILE_MISSING');
  });

  it('readable by others: KEY_FILE_EXPOSED', async () => {
    await chmod(keyFile(), 0o644);
    await expectFailure(() => start(), 'KEY_FILE_EXPOSED');
    await chmod(keyFile(), 0o600);
  });

  it('no key file at all: KEY_FILE_INVALID', async () => {
    const other = path.join(folder, 'other.key');
    await writeFile(other, CANARY, { mode: 0o600 });
    await expectFailure(() => start(localKeyFile({ path: other })), 'KEY_FILE_INVALID');
  });

  it('of another store: KEY_MISMATCH', async () => {
    await expectFailure(
      () => start(localKeyFile({ path: path.join(folder, 'other.key'), create: 'if-missing' })),
      'KEY_MISMATCH',
    );
  });
});
