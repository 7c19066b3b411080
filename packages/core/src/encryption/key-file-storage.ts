import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, realpath, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder } from '../foundation/durable-files.js';
import { KeyFileError } from '../foundation/errors.js';
import { parseKeyFile, type KeyFile } from './key-file-format.js';

const LARGEST_FILE_BYTES = 1_048_576;

/** What stands between the text of a key file and the bytes on disk. */
export interface KeyFileWrapping {
  /** The text, in a buffer the caller zeroes. */
  open(path: string, contents: Buffer): Promise<Buffer>;
  seal(path: string, text: Buffer): Promise<Buffer>;
  /** Forgets what it knows of keys. */
  close(): void;
}

/** The key file at `path`, or undefined when there is none. The buffers in it are the caller's to zero. */
export async function readKeyFile(path: string, wrapping?: KeyFileWrapping): Promise<KeyFile | undefined> {
  const file = await openIfThere(path);
  if (file === undefined) return undefined;
  let contents: Buffer | undefined;
  try {
    // Checked and read through one descriptor, so that what was checked is what is read.
    const stat = await file.stat();
    if (!stat.isFile()) throw invalid(path, 'is not a regular file');
    checkAccess(path, stat.mode & 0o777, stat.uid);
    if (stat.size > LARGEST_FILE_BYTES) throw invalid(path, `has more than ${LARGEST_FILE_BYTES} bytes`);
    contents = await file.readFile();
    // The bytes on disk are of no use without the passphrase, so nothing is lost by not zeroing them.
    if (wrapping !== undefined) contents = await wrapping.open(path, contents);
    const parsed = parseKeyFile(contents);
    if (typeof parsed === 'string') throw invalid(path, parsed);
    return parsed;
  } finally {
    contents?.fill(0);
    await file.close();
  }
}

/** Puts a whole file at `path`, durably, and the folders above it (0700), or nothing when there is a file already. */
export async function placeKeyFile(path: string, contents: Uint8Array, temporary: string): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    await writeDurably(temporary, contents);
    // A link, unlike a rename, fails where another process has put its key first.
    await link(temporary, path);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  await syncFolder(dirname(path));
  return true;
}

/** Puts a whole file in the place of the one that is there, durably: a reader finds the one or the other. */
export async function replaceKeyFile(path: string, contents: Uint8Array, suffix: string): Promise<void> {
  // What a link leads to is replaced, and the link stays.
  const target = await realpath(path);
  const temporary = `${target}.${suffix}.new`;
  try {
    await writeDurably(temporary, contents);
    await rename(temporary, target);
  } finally {
    await rm(temporary, { force: true });
  }
  await syncFolder(dirname(target));
}

export function codeOf(error: unknown): string {
  // No instanceof: under Jest the errors of node:fs come from another realm.
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'unknown';
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

function invalid(path: string, what: string): KeyFileError {
  return new KeyFileError(
    'KEY_FILE_INVALID',
    `The key file ${path} ${what}. Restore it from its backup; do not edit it by hand.`,
  );
}
