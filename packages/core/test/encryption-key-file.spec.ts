import { execFileSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  createLocalKeyFile,
  cryptoRandomness,
  isSecretsError,
  Keyring,
  localKeyFile,
  type SecretsError,
} from '@nestjs-secrets/core';

const CONTEXT = { secretName: 'MyDbCreds', versionId: 'v1' };
const KEY = Buffer.alloc(32, 'canary').toString('base64');
const asRoot = process.geteuid?.() === 0 ? it : it.skip;

let folder: string;
let path: string;
let nodeEnv: string | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-key-file-'));
  path = join(folder, 'keys', 'local.json');
  nodeEnv = process.env.NODE_ENV;
});

afterEach(async () => {
  process.env.NODE_ENV = nodeEnv;
  await rm(folder, { recursive: true });
});

const failure = async (work: Promise<unknown>): Promise<SecretsError> => {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isSecretsError(error)) throw new Error(`not an error of ours: ${String(error)}`);
  expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/canary|Y2FuYXJ5/);
  return error;
};

const write = async (contents: unknown, mode = 0o600): Promise<void> => {
  await mkdir(join(folder, 'keys'), { recursive: true });
  await writeFile(path, typeof contents === 'string' ? contents : JSON.stringify(contents), { mode });
  await chmod(path, mode);
};

const keyFile = (versions: unknown = [{ version: 1, key: KEY, createdAt: '2026-11-20T00:00:00.000Z' }]): object => ({
  format: 1,
  cmkId: 'local:test',
  versions,
});

const active = async (at = path): Promise<string> => {
  const provider = localKeyFile({ path: at, create: 'never' });
  await provider.open();
  const { id, version } = await provider.active();
  await provider.close();
  return `${id} ${version}`;
};

describe('localKeyFile', () => {
  it('makes a file only its owner may use, and finds the same key in it again', async () => {
    const first = localKeyFile({ path, create: 'if-missing' });
    await first.open();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, 'keys'))).mode & 0o777).toBe(0o700);
    expect(await readdir(join(folder, 'keys'))).toEqual(['local.json']);
    const envelope = await new Keyring(first, 's', cryptoRandomness).seal(CONTEXT, Buffer.from('kept'));
    await first.close();

    const second = localKeyFile({ path, create: 'never' });
    await second.open();
    expect((await new Keyring(second, 's', cryptoRandomness).open(CONTEXT, envelope)).toString()).toBe('kept');
    await second.close();
  });

  it('makes one in development and none in production, unless told otherwise', async () => {
    process.env.NODE_ENV = 'production';
    const refused = await failure(localKeyFile({ path }).open());
    expect(refused.code).toBe('KEY_FILE_MISSING');
    expect(refused.message).toContain('createLocalKeyFile');
    await expect(stat(path)).rejects.toThrow('ENOENT');
    await localKeyFile({ path, create: 'if-missing' }).open();
    await rm(path);

    process.env.NODE_ENV = 'development';
    expect((await failure(localKeyFile({ path, create: 'never' }).open())).code).toBe('KEY_FILE_MISSING');
    await localKeyFile({ path }).open();
    expect(await active()).toMatch(/^local:[0-9a-f]{32} 1$/);
  });

  it('ends with one key when many start at once', async () => {
    const providers = Array.from({ length: 12 }, () => localKeyFile({ path, create: 'if-missing' }));
    await Promise.all(providers.map((provider) => provider.open()));
    const ids = await Promise.all(providers.map(async (provider) => (await provider.active()).id));
    expect(new Set(ids).size).toBe(1);
    expect(await active()).toBe(`${ids[0]} 1`);
    expect(await readdir(join(folder, 'keys'))).toEqual(['local.json']);
  });

  it('never overwrites a file, whatever is in it', async () => {
    await write('not a key file');
    expect(await createLocalKeyFile(path)).toBe(false);
    expect((await failure(localKeyFile({ path, create: 'if-missing' }).open())).code).toBe('KEY_FILE_INVALID');
    expect(await readFile(path, 'utf8')).toBe('not a key file');
    expect(await readdir(join(folder, 'keys'))).toEqual(['local.json']);
  });

  it('uses the highest version for new data and opens with every version', async () => {
    const other = Buffer.alloc(32, 5).toString('base64');
    await write(keyFile([{ version: 1, key: KEY }]));
    const before = localKeyFile({ path });
    await before.open();
    const envelope = await new Keyring(before, 's', cryptoRandomness).seal(CONTEXT, Buffer.from('old'));

    await write(
      keyFile([
        { version: 7, key: other },
        { version: 1, key: KEY },
      ]),
    );
    const after = localKeyFile({ path });
    await after.open();
    expect(await after.active()).toEqual({ id: 'local:test', version: 7 });
    expect((await new Keyring(after, 's', cryptoRandomness).open(CONTEXT, envelope)).toString()).toBe('old');

    await write(keyFile([{ version: 7, key: other }]));
    const without = localKeyFile({ path });
    await without.open();
    const gone = await failure(new Keyring(without, 's', cryptoRandomness).open(CONTEXT, envelope));
    expect([gone.code, gone.message]).toEqual(['KEY_MISMATCH', expect.stringContaining('local:test version 1')]);
  });

  it('tells another key from its own, also one of the same id', async () => {
    await write(keyFile());
    const right = localKeyFile({ path });
    await right.open();
    const envelope = await new Keyring(right, 's', cryptoRandomness).seal(CONTEXT, Buffer.from('x'));
    for (const wrong of [
      { ...keyFile(), cmkId: 'local:other' },
      keyFile([{ version: 1, key: Buffer.alloc(32, 9).toString('base64') }]),
    ]) {
      await write(wrong);
      const provider = localKeyFile({ path });
      await provider.open();
      expect((await failure(new Keyring(provider, 's', cryptoRandomness).open(CONTEXT, envelope))).code).toBe(
        'KEY_MISMATCH',
      );
    }
  });

  it.each([0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o777])('refuses mode %o', async (mode) => {
    await write(keyFile(), mode);
    const error = await failure(localKeyFile({ path }).open());
    expect(error.code).toBe('KEY_FILE_EXPOSED');
    expect(error.message).toContain(`mode 0${mode.toString(8)}`);
    expect(error.message).toContain(`chmod 600 '${path}'`);
  });

  it('takes mode 0400, and follows a link to a file that passes', async () => {
    await write(keyFile(), 0o400);
    await symlink(path, join(folder, 'link.json'));
    expect(await active(join(folder, 'link.json'))).toBe('local:test 1');
    await chmod(path, 0o644);
    expect((await failure(active(join(folder, 'link.json')))).code).toBe('KEY_FILE_EXPOSED');
  });

  asRoot('refuses a file of another user', async () => {
    await write(keyFile());
    await chown(path, 65_534, 65_534);
    const error = await failure(localKeyFile({ path }).open());
    expect([error.code, error.message]).toEqual(['KEY_FILE_EXPOSED', expect.stringContaining('belongs to user 65534')]);
  });

  it.each<[string, unknown]>([
    ['an empty file', ''],
    ['a key and nothing else', KEY],
    ['half a file', JSON.stringify(keyFile()).slice(0, 80)],
    ['null', null],
    ['a list', []],
    ['another format', { ...keyFile(), format: 2 }],
    ['no id', { ...keyFile(), cmkId: undefined }],
    ['an id with a space', { ...keyFile(), cmkId: 'my key' }],
    ['no versions', keyFile([])],
    ['versions that are no list', keyFile({ version: 1, key: KEY })],
    ['a version that is null', keyFile([null])],
    ['version 0', keyFile([{ version: 0, key: KEY }])],
    ['version 1.5', keyFile([{ version: 1.5, key: KEY }])],
    ['version "1"', keyFile([{ version: '1', key: KEY }])],
    [
      'a version twice',
      keyFile([
        { version: 1, key: KEY },
        { version: 1, key: KEY },
      ]),
    ],
    ['no key', keyFile([{ version: 1 }])],
    ['a key of 16 bytes', keyFile([{ version: 1, key: Buffer.alloc(16, 'canary').toString('base64') }])],
    ['a key of 33 bytes', keyFile([{ version: 1, key: Buffer.alloc(33, 'canary').toString('base64') }])],
    ['a key in hex', keyFile([{ version: 1, key: Buffer.alloc(32, 'canary').toString('hex') }])],
    ['64 KB of spaces', ' '.repeat(65_537)],
  ])('refuses %s without quoting it', async (_what, contents) => {
    await write(contents);
    const error = await failure(localKeyFile({ path }).open());
    expect(error.code).toBe('KEY_FILE_INVALID');
    expect(error.message).toContain(path);
  });

  it('refuses what is no file, and does not wait for the other end of a pipe', async () => {
    expect((await failure(localKeyFile({ path: folder }).open())).code).toBe('KEY_FILE_INVALID');
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', pipe]);
    expect((await failure(localKeyFile({ path: pipe }).open())).code).toBe('KEY_FILE_INVALID');
  });

  it('says so when a file cannot be made', async () => {
    const inTheWay = join(folder, 'file');
    await writeFile(inTheWay, '');
    expect((await failure(createLocalKeyFile(join(inTheWay, 'key.json')))).code).toBe('KEY_FILE_MISSING');
    expect((await failure(localKeyFile({ path: join(inTheWay, 'key.json') }).open())).code).toBe('KEY_FILE_INVALID');
  });

  it('does nothing before open() and after close()', async () => {
    await write(keyFile());
    const provider = localKeyFile({ path });
    expect(() => provider.active()).toThrow(expect.objectContaining({ code: 'KEY_PROVIDER_CLOSED' }));
    await provider.open();
    await provider.close();
    await provider.close();
    const keyring = new Keyring(provider, 's', cryptoRandomness);
    expect((await failure(keyring.seal(CONTEXT, Buffer.from('x')))).code).toBe('KEY_PROVIDER_CLOSED');
  });

  it('shows no key when it is printed', async () => {
    await write(keyFile());
    const provider = localKeyFile({ path });
    await provider.open();
    expect(inspect(provider, { depth: 9, showHidden: true })).not.toContain(KEY);
    expect(JSON.stringify(provider)).not.toContain(KEY);
  });
});
