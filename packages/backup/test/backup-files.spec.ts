import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, afterAll, describe, expect, it } from '@jest/globals';
import { isSecretsError, type SecretsManager } from '@nestjs-secrets/core';
import {
  type BackupIdentity,
  exportStore,
  generateBackupIdentity,
  importStore,
  inspectBackup,
} from '@nestjs-secrets/backup';
import { Decrypter, Encrypter, generateHybridIdentity, identityToRecipient } from 'age-encryption';
import { startWorld, type World } from '../../core/test/support/world.js';

const worlds: World[] = [];
const started = async (): Promise<SecretsManager> => {
  const world = await startWorld();
  worlds.push(world);
  return world.manager;
};

let folder = '';
let keys: BackupIdentity = { identity: '', recipient: '' };
const inFolder = (name: string): string => join(folder, name);
let count = 0;
const fresh = (): string => inFolder(`backup-${(count += 1)}.age`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-backup-'));
  keys = await generateBackupIdentity();
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(async () => {
  for (const { runtime } of worlds.splice(0)) await runtime.close();
});

/** Values of every size around the 64 KiB in which age works, so that a chunk that was zeroed too early would show. */
async function makeSecrets(manager: SecretsManager): Promise<void> {
  for (const [index, length] of [0, 1, 1_000, 16_383, 30_000, 65_000, 65_535, 65_536].entries()) {
    const value = new Uint8Array(length).map((_, at) => 1 + ((at * 7 + index) % 255));
    await manager.createSecret(`Secret-${index}`, value, { tags: { length: String(length) } });
    await manager.putSecretValue(`Secret-${index}`, { text: 'x'.repeat(Math.max(0, length - 20)) });
  }
}

async function expectSame(to: SecretsManager, from: SecretsManager): Promise<void> {
  const { items } = await from.listSecrets();
  expect((await to.listSecrets()).items).toEqual(items);
  for (const { name, versions } of items)
    for (const { versionId } of versions)
      expect((await to.getSecretValue(name, { versionId })).value).toEqual(
        (await from.getSecretValue(name, { versionId })).value,
      );
}

describe('a backup in a file', () => {
  it('comes into another store as it was, for each of its recipients', async () => {
    const from = await started();
    await makeSecrets(from);
    const other = await generateHybridIdentity();
    const others = [await identityToRecipient(other)];
    const file = fresh();
    const summary = await exportStore(from, { file, recipients: keys.recipient });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await inspectBackup({ file, identity: keys.identity })).toEqual(summary);
    const to = await started();
    const unfitting = (await generateBackupIdentity()).identity;
    const report = await importStore(to, {
      file,
      identity: [unfitting, keys.identity],
      signedBy: summary.signedBy,
    });
    expect(report).toMatchObject({ imported: 8, backup: summary });
    await expectSame(to, from);
    const second = fresh();
    const { digest } = await exportStore(from, { file: second, recipients: others });
    // The digest is of the contents, whoever they are encrypted for.
    expect(digest).toBe(summary.digest);
    expect(await inspectBackup({ file: second, identity: other, signedBy: summary.signedBy })).toMatchObject({
      digest,
    });
    expect((await readdir(folder)).filter((name) => name.endsWith('.new'))).toEqual([]);
  });

  it('opens by its passphrase, here and with age itself', async () => {
    const from = await started();
    await from.createSecret('One', 1);
    const [file, passphrase] = [fresh(), 'correct horse battery staple'];
    const { signedBy } = await exportStore(from, { file, passphrase });
    const to = await started();
    await importStore(to, { file, passphrase, signedBy });
    await expectSame(to, from);
    const decrypter = new Decrypter();
    decrypter.addPassphrase(passphrase);
    const plain = await decrypter.decrypt(await readFile(file));
    const encrypter = new Encrypter();
    encrypter.setPassphrase(passphrase);
    encrypter.setScryptWorkFactor(10);
    const second = fresh();
    await writeFile(second, await encrypter.encrypt(plain));
    expect(await inspectBackup({ file: second, passphrase, signedBy })).toMatchObject({ secrets: 1 });
  }, 240_000);

  it('is a file of age, which other programs read', async () => {
    const from = await started();
    await from.createSecret('One', 'the value');
    const file = fresh();
    await exportStore(from, { file, recipients: [keys.recipient] });
    const decrypter = new Decrypter();
    decrypter.addIdentity(keys.identity);
    const lines = Buffer.from(await decrypter.decrypt(await readFile(file)))
      .toString('utf8')
      .split('\n');
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ kind: 'header', format: 'nestjs-secrets-backup', version: 1 });
    expect(lines[3]).toBe('j"the value"');
  });

  it('is never put over another file, unless that is asked for', async () => {
    const from = await started();
    const file = fresh();
    await writeFile(file, 'precious');
    await expect(exportStore(from, { file, recipients: keys.recipient })).rejects.toMatchObject({
      code: 'BACKUP_FILE',
    });
    expect(await readFile(file, 'utf8')).toBe('precious');
    await exportStore(from, { file, recipients: keys.recipient, overwrite: true });
    expect(await inspectBackup({ file, identity: keys.identity })).toMatchObject({ secrets: 0 });
    expect((await readdir(folder)).filter((name) => name.endsWith('.new'))).toEqual([]);
  });

  it('loses to a file that came there while it was written', async () => {
    const from = await started();
    const file = fresh();
    const racing = {
      backup: {
        importStore: from.backup.importStore.bind(from.backup),
        exportStore: async (write: Parameters<SecretsManager['backup']['exportStore']>[0]) => {
          const summary = await from.backup.exportStore(write);
          await writeFile(file, 'precious');
          return summary;
        },
      },
    };
    await expect(exportStore(racing, { file, recipients: keys.recipient })).rejects.toMatchObject({
      code: 'BACKUP_FILE',
    });
    expect(await readFile(file, 'utf8')).toBe('precious');
  });

  it('does not come about in part', async () => {
    const from = await started();
    await makeSecrets(from);
    const file = fresh();
    const failing = {
      backup: {
        importStore: from.backup.importStore.bind(from.backup),
        exportStore: (write: Parameters<SecretsManager['backup']['exportStore']>[0]) =>
          from.backup.exportStore(async (content) => {
            await write(
              (async function* () {
                let chunks = 0;
                for await (const chunk of content) {
                  if ((chunks += 1) > 10) throw new Error('power cut');
                  yield chunk;
                }
              })(),
            );
          }),
      },
    };
    await expect(exportStore(failing, { file, recipients: keys.recipient })).rejects.toThrow('power cut');
    await expect(
      exportStore(from, { file: join(folder, 'nowhere', 'a.age'), recipients: keys.recipient }),
    ).rejects.toMatchObject({
      code: 'BACKUP_FILE',
    });
    expect((await readdir(folder)).filter((name) => name.endsWith('.new') || join(folder, name) === file)).toEqual([]);
  });

  it('I8 is none when its event is not taken, which comes last', async () => {
    const from = await started();
    await from.createSecret('One', 1);
    const file = fresh();
    const unrecorded = {
      backup: {
        importStore: from.backup.importStore.bind(from.backup),
        exportStore: async (write: Parameters<SecretsManager['backup']['exportStore']>[0]) => {
          await from.backup.exportStore(write);
          throw new Error('the log does not take it');
        },
      },
    };
    await expect(exportStore(unrecorded, { file, recipients: keys.recipient })).rejects.toThrow('the log');
    expect((await readdir(folder)).filter((name) => name.endsWith('.new') || inFolder(name) === file)).toEqual([]);
  });

  it('cannot be made for nobody, and says so without quoting what it was given', async () => {
    const from = await started();
    const file = fresh();
    const wrong = [
      { recipients: [] },
      { recipients: keys.identity },
      { recipients: 'age1canary' },
      { passphrase: 'short canary' },
      { recipients: keys.recipient, passphrase: 'canary canary canary' },
      {},
    ] as unknown as { recipients: string }[];
    for (const lock of wrong) {
      const error: unknown = await exportStore(from, { file, ...lock }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'BACKUP_OPTIONS_INVALID' });
      expect(JSON.stringify(error) + String(error)).not.toMatch(/canary|AGE-SECRET/);
    }
    const secret = `${keys.identity.slice(0, -1)}x`;
    const error: unknown = await inspectBackup({ file, identity: secret }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'BACKUP_OPTIONS_INVALID' });
    expect(String(error)).not.toContain(secret.slice(16));
  });
});

describe('a file that is not what was written', () => {
  let written: Buffer = Buffer.alloc(0);
  let signedBy = '';
  beforeAll(async () => {
    const from = await startWorld();
    await makeSecrets(from.manager);
    const file = fresh();
    ({ signedBy } = await exportStore(from.manager, { file, recipients: keys.recipient }));
    written = await readFile(file);
    await from.runtime.close();
  });

  const importing = async (to: SecretsManager, bytes: Uint8Array): Promise<string> => {
    const file = fresh();
    await writeFile(file, bytes);
    try {
      await importStore(to, { file, identity: keys.identity, signedBy });
      return 'imported';
    } catch (error) {
      return isSecretsError(error) ? error.code : `another error: ${String(error)}`;
    }
  };

  it('imports nothing, cut at the end of a chunk or anywhere', async () => {
    const to = await started();
    const header = written.indexOf('\n---') + 48;
    const cuts = [0, 1, header - 1, header, header + 16, header + 17, written.length - 1];
    for (let at = header + 16; at < written.length; at += 65_552) cuts.push(at - 1, at, at + 1);
    for (const at of cuts) {
      const code = await importing(to, written.subarray(0, at));
      // A header that is cut short may name nobody.
      expect([at, code]).toEqual([at, expect.stringMatching(/^BACKUP_(INVALID|LOCKED)$/)]);
    }
    expect((await to.listSecrets()).items).toEqual([]);
  });

  it('imports nothing with a bit of it changed, at each place of its beginning and its end and at random', async () => {
    const to = await started();
    const places = [
      ...Array.from({ length: 260 }, (_, at) => at),
      ...Array.from({ length: 40 }, (_, at) => written.length - 1 - at),
      ...Array.from({ length: 40 }, () => Math.floor(Math.random() * written.length)),
    ];
    for (const at of places) {
      const bytes = Buffer.from(written);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      const code = await importing(to, bytes);
      expect([at, code]).toEqual([at, expect.stringMatching(/^BACKUP_(INVALID|LOCKED)$/)]);
    }
    expect((await to.listSecrets()).items).toEqual([]);
  });

  it('imports nothing with the wrong key, from a forger, or where it cannot be read', async () => {
    const to = await started();
    const file = fresh();
    await writeFile(file, written);
    const { identity } = await generateBackupIdentity();
    await expect(importStore(to, { file, identity, signedBy })).rejects.toMatchObject({ code: 'BACKUP_LOCKED' });
    const passphrase = 'not what it was made for';
    await expect(importStore(to, { file, passphrase, signedBy })).rejects.toMatchObject({ code: 'BACKUP_LOCKED' });
    // Whoever knows the recipient can encrypt for it. He cannot sign.
    const forger = await started();
    await forger.createSecret('Db', { password: 'chosen by the attacker' });
    const forged = fresh();
    await exportStore(forger, { file: forged, recipients: keys.recipient });
    await expect(importStore(to, { file: forged, identity: keys.identity, signedBy })).rejects.toMatchObject({
      code: 'BACKUP_SIGNER_UNKNOWN',
    });
    const encrypter = new Encrypter();
    encrypter.addRecipient(keys.recipient);
    await writeFile(forged, await encrypter.encrypt('anything else'));
    await expect(importStore(to, { file: forged, identity: keys.identity, signedBy })).rejects.toMatchObject({
      code: 'BACKUP_INVALID',
    });
    const nowhere = importStore(to, { file: inFolder('none.age'), identity: keys.identity, signedBy });
    await expect(nowhere).rejects.toMatchObject({ code: 'BACKUP_FILE' });
    expect((await to.listSecrets()).items).toEqual([]);
  });
});
