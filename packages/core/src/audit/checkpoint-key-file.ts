import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { CheckpointKeyError, systemCode } from './audit-errors.js';
import { type CheckpointSigner, checkpointSigner } from './checkpoint.js';
import { syncFolder } from '../foundation/durable-files.js';

export interface CheckpointKeyFileOptions {
  /** Relative to the working directory, unless absolute. Not in the folder of the log. */
  readonly path: string;
  /** The name that stands before each signature; as a rule the origin of the log. */
  readonly name: string;
  /**
   * Whether a key is made where there is none. `'if-missing'` by default; `'never'` by default when `NODE_ENV` is `production`, where a new key
   * would make every checkpoint from then on unknown to those who check.
   */
  readonly create?: 'never' | 'if-missing';
}

const LARGEST_FILE_BYTES = 8192;

/**
 * A signer whose Ed25519 key lives in a file of its own (PKCS#8 in PEM, mode 0600, owned by the user of the process; neither is checked on
 * Windows).
 * @throws CheckpointKeyError `CHECKPOINT_KEY_MISSING`, `CHECKPOINT_KEY_EXPOSED` when others may read it, `CHECKPOINT_KEY_INVALID`
 */
export async function checkpointKeyFile(
  options: CheckpointKeyFileOptions,
  randomness: Randomness = cryptoRandomness,
): Promise<CheckpointSigner> {
  const path = resolve(options.path);
  const create = options.create ?? (process.env.NODE_ENV === 'production' ? 'never' : 'if-missing');
  let file = await openIfThere(path);
  if (file === undefined && create === 'if-missing') {
    await makeKeyFile(path, randomness);
    file = await openIfThere(path);
  }
  if (file === undefined) {
    throw new CheckpointKeyError(
      'CHECKPOINT_KEY_MISSING',
      `There is no checkpoint key ${path}. Restore it from its backup, or make one: openssl genpkey -algorithm ed25519 -out '${path}' && chmod 600 '${path}' (and tell those who check the new public key).`,
    );
  }
  return checkpointSigner(await readKey(file, path), options.name);
}

async function makeKeyFile(path: string, randomness: Randomness): Promise<void> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const temporary = `${path}.${randomness.bytes(8).toString('hex')}.new`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(privateKey.export({ type: 'pkcs8', format: 'pem' }));
      await file.sync();
    } finally {
      await file.close();
    }
    // A link, unlike a rename, fails where another process has put its key first.
    await link(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return;
    throw new CheckpointKeyError(
      'CHECKPOINT_KEY_MISSING',
      `There is no checkpoint key ${path} and it cannot be made (${systemCode(error)}). Make the folder writable, or put the key there.`,
      error,
    );
  } finally {
    await rm(temporary, { force: true });
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    // Without O_NONBLOCK a named pipe in its place would hold up the start for ever.
    return await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw invalid(path, `cannot be read (${systemCode(error)})`);
  }
}

async function readKey(file: FileHandle, path: string): Promise<KeyObject> {
  let pem: Buffer | undefined;
  try {
    const { mode, uid, size } = await file.stat();
    const user = process.geteuid?.();
    if (user !== undefined && (mode & 0o077) !== 0)
      throw exposed(path, 'may be used by others than its owner', `chmod 600 '${path}'`);
    if (user !== undefined && uid !== user) throw exposed(path, `belongs to user ${uid}`, `chown ${user} '${path}'`);
    if (size > LARGEST_FILE_BYTES) throw invalid(path, 'is too large');
    pem = await file.readFile();
    const key = parsePem(pem);
    if (key?.asymmetricKeyType !== 'ed25519') throw invalid(path, 'is not an Ed25519 private key in PEM');
    return key;
  } finally {
    pem?.fill(0);
    await file.close();
  }
}

function parsePem(pem: Buffer): KeyObject | undefined {
  try {
    return createPrivateKey({ key: pem, format: 'pem' });
  } catch {
    // What OpenSSL has to say of it helps nobody.
    return undefined;
  }
}

function exposed(path: string, what: string, remedy: string): CheckpointKeyError {
  return new CheckpointKeyError('CHECKPOINT_KEY_EXPOSED', `The checkpoint key ${path} ${what}. Run: ${remedy}`);
}

function invalid(path: string, what: string): CheckpointKeyError {
  return new CheckpointKeyError(
    'CHECKPOINT_KEY_INVALID',
    `The checkpoint key ${path} ${what}. Restore it from its backup.`,
  );
}
