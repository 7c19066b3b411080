import { createSecretKey, type KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KeyFileError } from '../foundation/errors.js';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { KEY_BYTES } from './aes-gcm.js';
import { type KeyProvider, KeyProviderError } from './key-provider.js';
import { parseKeyFile, printKeyFile } from './key-file-format.js';
import { MasterKeys } from './master-keys.js';

export interface LocalKeyFileOptions {
  /** Relative to the working directory, unless absolute. Keep it away from the store's data and from its backups. */
  readonly path: string;
  /**
   * Whether `open()` makes a key file, and the folders above it, where there is none. `'if-missing'` by default; `'never'` by default when
   * `NODE_ENV` is `production`, since a new key where the old one went missing only hides the loss: it opens nothing that is stored.
   */
  readonly create?: 'never' | 'if-missing';
}

const LARGEST_FILE_BYTES = 65_536;

/**
 * Master keys in a file of mode 0600 that belongs to the user of the process (neither is checked on Windows). Every version in the file opens data
 * keys; the highest one wraps new ones.
 *
 * `open()` throws a `KeyFileError`: `KEY_FILE_MISSING`, `KEY_FILE_EXPOSED` when others may read or change the file, `KEY_FILE_INVALID`
 * when it cannot be read or is no key file.
 */
export function localKeyFile(options: LocalKeyFileOptions, randomness: Randomness = cryptoRandomness): KeyProvider {
  const path = resolve(options.path);
  const name = `local key file ${path}`;
  let keys: MasterKeys | undefined;
  const opened = (): MasterKeys => {
    if (keys !== undefined) return keys;
    throw new KeyProviderError(
      'KEY_PROVIDER_CLOSED',
      name,
      'is not open: open() was not called yet, or the application is shutting down.',
    );
  };
  return {
    name,
    open: async () => {
      const create = options.create ?? (process.env.NODE_ENV === 'production' ? 'never' : 'if-missing');
      let file = await openIfThere(path);
      if (file === undefined && create === 'if-missing') {
        await createLocalKeyFile(path, randomness);
        file = await openIfThere(path);
      }
      if (file === undefined) throw missing(path);
      keys = await readKeys(file, path, randomness);
    },
    close: async () => {
      keys = undefined;
    },
    active: () => opened().active,
    wrap: (cmk, dataKey, associatedData) => opened().wrap(cmk, dataKey, associatedData),
    unwrap: (cmk, wrappedKey, associatedData) => opened().unwrap(cmk, wrappedKey, associatedData),
  };
}

/**
 * Makes a key file with one random key, durably, and the folders above it (0700). Resolves to false, and changes nothing, when there is a file at
 * `path` already; of several processes at once, one makes the file.
 * @throws KeyFileError `KEY_FILE_MISSING` when it cannot be made there
 */
export async function createLocalKeyFile(path: string, randomness: Randomness = cryptoRandomness): Promise<boolean> {
  const target = resolve(path);
  const folder = dirname(target);
  const key = randomness.bytes(KEY_BYTES);
  const contents = printKeyFile(`local:${randomness.bytes(16).toString('hex')}`, key, new Date());
  key.fill(0);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const made = await placeDurably(target, contents, `${target}.${randomness.bytes(8).toString('hex')}.new`);
    if (made) await syncFolder(folder);
    return made;
  } catch (error) {
    throw new KeyFileError(
      'KEY_FILE_MISSING',
      `There is no key file ${target} and it cannot be made (${codeOf(error)}). Make the folder writable, or put the file there.`,
      error,
    );
  } finally {
    contents.fill(0);
  }
}

/** Puts a whole file at `target`, or nothing when there is one already. */
async function placeDurably(target: string, contents: Uint8Array, temporary: string): Promise<boolean> {
  try {
    await writeDurably(temporary, contents);
    // A link, unlike a rename, fails where another process has put its key first.
    await link(temporary, target);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

async function writeDurably(path: string, contents: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(contents);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  // Windows does not open folders, and needs no such thing.
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    // Without O_NONBLOCK a named pipe in its place would hold up the start for ever.
    return await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new KeyFileError(
      'KEY_FILE_INVALID',
      `The key file ${path} cannot be read (${codeOf(error)}). Check its owner and the folders above it.`,
      error,
    );
  }
}

/** Checks and reads through one descriptor, so that what was checked is what is read. Closes it. */
async function readKeys(file: FileHandle, path: string, randomness: Randomness): Promise<MasterKeys> {
  let contents: Buffer | undefined;
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw invalid(path, 'is not a regular file');
    checkAccess(path, stat.mode & 0o777, stat.uid);
    if (stat.size > LARGEST_FILE_BYTES) throw invalid(path, `has more than ${LARGEST_FILE_BYTES} bytes`);
    contents = await file.readFile();
    const parsed = parseKeyFile(contents);
    if (typeof parsed === 'string') throw invalid(path, parsed);
    return new MasterKeys(parsed.cmkId, keyObjects(parsed.keys), randomness);
  } finally {
    contents?.fill(0);
    await file.close();
  }
}

function checkAccess(path: string, mode: number, owner: number): void {
  const user = process.geteuid?.();
  if (user === undefined) return;
  if ((mode & 0o077) !== 0) {
    throw new KeyFileError(
      'KEY_FILE_EXPOSED',
      `The key file ${path} has mode ${mode.toString(8).padStart(4, '0')}: others than its owner may use it. Run: chmod 600 '${path}' (and consider the key known to them).`,
    );
  }
  if (owner !== user) {
    throw new KeyFileError(
      'KEY_FILE_EXPOSED',
      `The key file ${path} belongs to user ${owner}, and the process runs as user ${user}. Run: chown ${user} '${path}'`,
    );
  }
}

function keyObjects(keys: ReadonlyMap<number, Buffer>): Map<number, KeyObject> {
  const objects = new Map<number, KeyObject>();
  for (const [version, key] of keys) {
    objects.set(version, createSecretKey(key));
    key.fill(0);
  }
  return objects;
}

function missing(path: string): KeyFileError {
  return new KeyFileError(
    'KEY_FILE_MISSING',
    `There is no key file ${path}. If this application has stored secrets before, restore the file from its backup: no other opens them. Otherwise make one: ` +
      `node -e "require('@nestjs-secrets/core').createLocalKeyFile(process.argv[1])" '${path}' (outside production, localKeyFile does so by itself).`,
  );
}

function invalid(path: string, what: string): KeyFileError {
  return new KeyFileError(
    'KEY_FILE_INVALID',
    `The key file ${path} ${what}. Restore it from its backup; do not edit it by hand.`,
  );
}

function codeOf(error: unknown): string {
  // No instanceof: under Jest the errors of node:fs come from another realm.
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'unknown';
}
