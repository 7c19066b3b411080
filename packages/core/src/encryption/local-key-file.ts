import { createSecretKey, type KeyObject } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { lockFolder } from '../audit/folder-lock.js';
import { isSecretsError, KeyFileError } from '../foundation/errors.js';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { KEY_BYTES } from './aes-gcm.js';
import { printKeyFile, type KeyFile, type KeyFileEntry } from './key-file-format.js';
import { codeOf, type KeyFileWrapping, placeKeyFile, readKeyFile, replaceKeyFile } from './key-file-storage.js';
import { type CmkRef, type KeyProvider, KeyProviderError } from './key-provider.js';
import { KeySet } from './key-set.js';

export interface LocalKeyFileOptions {
  /** Relative to the working directory, unless absolute. Keep it away from the store's data and from its backups. */
  readonly path: string;
  /**
   * Whether `open()` makes a key file, and the folders above it, where there is none. `'if-missing'` by default; `'never'` by default when
   * `NODE_ENV` is `production`, since a new key where the old one went missing only hides the loss: it opens nothing that is stored.
   */
  readonly create?: 'never' | 'if-missing';
}

const LOCK_TRIES = 20;

/**
 * Master keys in a file of mode 0600 that belongs to the user of the process (neither is checked on Windows). Every version in the file opens data
 * keys. New keys and versions are written into the file, and read from it by every process that shares it as soon as they are needed; where each machine has
 * a copy, copy the file before the version is used (docs/keys.md).
 *
 * `open()` throws a `KeyFileError`: `KEY_FILE_MISSING`, `KEY_FILE_EXPOSED` when others may read or change the file, `KEY_FILE_INVALID`
 * when it cannot be read or is no key file. `make` and `destroy` throw `KEY_FILE_UNWRITABLE` where it cannot be changed.
 */
export function localKeyFile(options: LocalKeyFileOptions, randomness: Randomness = cryptoRandomness): KeyProvider {
  return new LocalKeyFile(resolve(options.path), options.create, randomness);
}

/** Of whatever wrapping; `localKeyFile` makes one without. */
export class LocalKeyFile implements KeyProvider {
  readonly name: string;
  #keys: KeySet | undefined;
  #reading: Promise<KeySet> | undefined;

  constructor(
    private readonly path: string,
    private readonly creation: 'never' | 'if-missing' | undefined,
    private readonly randomness: Randomness,
    private readonly wrapping?: KeyFileWrapping,
  ) {
    this.name = `${wrapping === undefined ? 'local' : 'passphrase'} key file ${path}`;
  }

  async open(): Promise<void> {
    const creation = this.creation ?? (process.env.NODE_ENV === 'production' ? 'never' : 'if-missing');
    let file = await readKeyFile(this.path, this.wrapping);
    if (file === undefined && creation === 'if-missing') {
      await makeKeyFile(this.path, this.randomness, this.wrapping);
      file = await readKeyFile(this.path, this.wrapping);
    }
    if (file === undefined) throw missing(this.path);
    this.#keys = keySet(file, this.randomness);
  }

  async close(): Promise<void> {
    this.#keys = undefined;
    this.wrapping?.close();
  }

  active(): CmkRef {
    return this.#opened().active;
  }

  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer> {
    const keys = this.#opened();
    if (keys.has(cmk)) return keys.wrap(cmk, dataKey, associatedData);
    return this.#readAgain().then((read) => read.wrap(cmk, dataKey, associatedData));
  }

  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer> {
    const keys = this.#opened();
    if (keys.has(cmk)) return keys.unwrap(cmk, wrappedKey, associatedData);
    return this.#readAgain().then((read) => read.unwrap(cmk, wrappedKey, associatedData));
  }

  async list(): Promise<readonly CmkRef[]> {
    this.#opened();
    return (await this.#readAgain()).list();
  }

  async make(id?: string): Promise<CmkRef> {
    this.#opened();
    const cmkId = id ?? newKeyId(this.randomness);
    const key = this.randomness.bytes(KEY_BYTES);
    try {
      return await this.#change(({ keys }) => {
        const known = keys.find((entry) => entry.cmkId === cmkId);
        const version = known?.nextVersion ?? 1;
        const made = { key, createdAt: new Date().toISOString() };
        const entry = { cmkId, nextVersion: version + 1, versions: new Map(known?.versions).set(version, made) };
        const changed = known === undefined ? [...keys, entry] : keys.map((one) => (one === known ? entry : one));
        return { file: { keys: changed }, result: { id: cmkId, version } };
      });
    } finally {
      key.fill(0);
    }
  }

  async destroy(cmk: CmkRef): Promise<void> {
    this.#opened();
    await this.#change(({ keys }) => {
      const entry = keys.find(({ cmkId }) => cmkId === cmk.id);
      if (entry === undefined || !entry.versions.has(cmk.version)) return { file: undefined, result: undefined };
      const versions = new Map(entry.versions);
      versions.delete(cmk.version);
      const left = keys.flatMap((one) => (one !== entry ? [one] : versions.size === 0 ? [] : [{ ...one, versions }]));
      if (left.length > 0) return { file: { keys: left }, result: undefined };
      throw this.#unwritable('would be left without any key. Delete it by hand if that is what you want.');
    });
  }

  /** Changes the file, one process at a time, so that no version that another one has just made gets lost. */
  async #change<T>(edit: (file: KeyFile) => { file: KeyFile | undefined; result: T }): Promise<T> {
    const lock = await this.#lock();
    try {
      const before = await readKeyFile(this.path, this.wrapping);
      if (before === undefined) throw missing(this.path);
      try {
        const { file, result } = edit(before);
        if (file !== undefined) {
          await this.#replace(file);
          this.#keys = keySet(file, this.randomness);
        }
        return result;
      } finally {
        zero(before);
      }
    } finally {
      await lock.release();
    }
  }

  async #replace(file: KeyFile): Promise<void> {
    const contents = printKeyFile(file);
    try {
      const sealed = (await this.wrapping?.seal(this.path, contents)) ?? contents;
      await replaceKeyFile(this.path, sealed, this.randomness.bytes(8).toString('hex'));
    } catch (error) {
      if (isSecretsError(error)) throw error;
      throw this.#unwritable(
        `cannot be changed (${codeOf(error)}). Make its folder writable, or change it where it comes from.`,
        error,
      );
    } finally {
      contents.fill(0);
    }
  }

  async #lock(): Promise<{ release(): Promise<void> }> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await lockFolder(dirname(this.path), this.randomness);
      } catch (error) {
        if (isSecretsError(error, 'AUDIT_FOLDER_BUSY') && attempt < LOCK_TRIES) continue;
        throw this.#unwritable('cannot be locked: its folder must be writable, and on a local file system.', error);
      }
    }
  }

  #unwritable(what: string, cause?: unknown): KeyFileError {
    return new KeyFileError('KEY_FILE_UNWRITABLE', `The key file ${this.path} ${what} Nothing was changed.`, cause);
  }

  #readAgain(): Promise<KeySet> {
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #read(): Promise<KeySet> {
    const file = await readKeyFile(this.path, this.wrapping);
    if (file === undefined) throw missing(this.path);
    const keys = keySet(file, this.randomness);
    // Closed meanwhile, it must not come back to life.
    if (this.#keys !== undefined) this.#keys = keys;
    return keys;
  }

  #opened(): KeySet {
    if (this.#keys !== undefined) return this.#keys;
    throw new KeyProviderError(
      'KEY_PROVIDER_CLOSED',
      this.name,
      'is not open: open() was not called yet, or the application is shutting down.',
    );
  }
}

/**
 * Makes a key file with one random key, durably, and the folders above it (0700). Resolves to false, and changes nothing, when there is a file at
 * `path` already; of several processes at once, one makes the file.
 * @throws KeyFileError `KEY_FILE_MISSING` when it cannot be made there
 */
export function createLocalKeyFile(path: string, randomness: Randomness = cryptoRandomness): Promise<boolean> {
  return makeKeyFile(resolve(path), randomness, undefined);
}

async function makeKeyFile(target: string, randomness: Randomness, wrapping?: KeyFileWrapping): Promise<boolean> {
  const key = randomness.bytes(KEY_BYTES);
  const entry: KeyFileEntry = {
    cmkId: newKeyId(randomness),
    nextVersion: 2,
    versions: new Map([[1, { key, createdAt: new Date().toISOString() }]]),
  };
  const contents = printKeyFile({ keys: [entry] });
  key.fill(0);
  try {
    const sealed = (await wrapping?.seal(target, contents)) ?? contents;
    return await placeKeyFile(target, sealed, `${target}.${randomness.bytes(8).toString('hex')}.new`);
  } catch (error) {
    if (isSecretsError(error)) throw error;
    throw new KeyFileError(
      'KEY_FILE_MISSING',
      `There is no key file ${target} and it cannot be made (${codeOf(error)}). Make the folder writable, or put the file there.`,
      error,
    );
  } finally {
    contents.fill(0);
  }
}

function newKeyId(randomness: Randomness): string {
  return `local:${randomness.bytes(16).toString('hex')}`;
}

/** The keys of a file, as key objects; the buffers they came in are zeroed. */
function keySet(file: KeyFile, randomness: Randomness): KeySet {
  const objects = new Map<string, Map<number, KeyObject>>();
  for (const { cmkId, versions } of file.keys)
    objects.set(cmkId, new Map([...versions].map(([version, { key }]) => [version, createSecretKey(key)])));
  zero(file);
  return new KeySet(objects, randomness);
}

function zero(file: KeyFile): void {
  for (const { versions } of file.keys) for (const { key } of versions.values()) key.fill(0);
}

function missing(path: string): KeyFileError {
  return new KeyFileError(
    'KEY_FILE_MISSING',
    `There is no key file ${path}. If this application has stored secrets before, restore the file from its backup: no other opens them. Otherwise make one: ` +
      `node -e "require('@nestjs-secrets/core').createLocalKeyFile(process.argv[1])" '${path}' (outside production, localKeyFile does so by itself).`,
  );
}
