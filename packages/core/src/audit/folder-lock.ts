import { lstatSync } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Randomness } from '../foundation/randomness.js';
import { AuditFolderError, systemCode } from './audit-errors.js';

const PREFIX = 'lock-';
const NEW_PREFIX = 'new-lock-';
const TRIES = 8;
/** What a socket address can hold on the smallest of systems (sun_path of macOS, with its terminating zero). */
const LONGEST_ADDRESS = 103;

/** A folder that this process alone writes to, until it lets go or dies. */
export interface FolderLock {
  /** False when the folder, or the lock in it, was removed or replaced. */
  isHeld(): boolean;
  release(): Promise<void>;
}

/**
 * Takes a folder for this process. The lock is a listening Unix socket in the folder (a named pipe on Windows): the kernel closes it with the
 * process, however that ends, so that a lock left behind by kill -9 is told from a held one by nobody answering. Process ids could not tell:
 * they are used again, and mean nothing in another container. Does not see processes on other machines that mount the same folder.
 * @throws AuditFolderError `AUDIT_FOLDER_BUSY` when another process, or another log of this one, has the folder
 */
export async function lockFolder(folder: string, randomness: Randomness): Promise<FolderLock> {
  if (process.platform === 'win32') return lockPipe(folder);
  for (let attempt = 1; ; attempt += 1) {
    const lock = await tryLock(folder, randomness.bytes(6).toString('hex'));
    if (lock !== undefined) return lock;
    // Two that start at once may each have seen the other and both have stepped back.
    if (attempt === TRIES) throw busy(folder);
    await delay(5 + randomness.below(20 * attempt));
  }
}

/**
 * Raises a flag of its own first and looks for others second, so that of two processes at least one sees the other. Flags have names of their own:
 * removing one that nobody answers behind can never take away somebody else's.
 */
async function tryLock(folder: string, id: string): Promise<FolderLock | undefined> {
  const handle = await open(folder, 'r');
  // Through the descriptor, since a socket's address is short and a folder's path need not be.
  const address = (name: string): string => {
    const path = join(folder, name);
    if (Buffer.byteLength(path) <= LONGEST_ADDRESS || process.platform !== 'linux') return path;
    return `/proc/self/fd/${handle.fd}/${name}`;
  };
  const name = `${PREFIX}${id}`;
  const path = join(folder, name);
  let server: Server | undefined;
  try {
    server = await listen(address(`${NEW_PREFIX}${id}`));
    // Under its own name only once it listens: bound but not yet listening it would look dead.
    await rename(join(folder, `${NEW_PREFIX}${id}`), path);
    for (const other of await readdir(folder)) {
      if (other === name || !(other.startsWith(PREFIX) || other.startsWith(NEW_PREFIX))) continue;
      if (!(await isAnswered(address(other)))) await rm(join(folder, other), { force: true });
      else if (other.startsWith(PREFIX)) {
        await letGo(server, path, handle);
        return undefined;
      }
    }
    const held = server;
    const { ino } = lstatSync(path);
    return {
      isHeld: () => lstatSync(path, { throwIfNoEntry: false })?.ino === ino,
      release: () => letGo(held, path, handle),
    };
  } catch (error) {
    if (server === undefined) await handle.close();
    else await letGo(server, path, handle);
    // Another process took it for dead between bind and listen.
    if (systemCode(error) === 'ENOENT' && server !== undefined) return undefined;
    throw new AuditFolderError(
      'AUDIT_FOLDER_UNUSABLE',
      `The audit folder ${folder} cannot be locked (${systemCode(error)}): it must be writable, on a local file system that takes Unix sockets, with a path of at most ${LONGEST_ADDRESS - 25} bytes outside Linux.`,
      error,
    );
  }
}

async function letGo(server: Server, path: string, handle: FileHandle): Promise<void> {
  await rm(path, { force: true });
  await new Promise((resolve) => server.close(resolve));
  await handle.close();
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((connection) => connection.destroy());
    server.unref();
    server.once('error', reject);
    // Exclusive: a worker of node:cluster would otherwise be given the socket of its primary.
    server.listen({ path, exclusive: true }, () => resolve(server));
  });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = createConnection(path);
    const end = (answered: boolean): void => {
      connection.destroy();
      resolve(answered);
    };
    connection.once('connect', () => end(true));
    // Anything but a refusal (a full backlog, no permission) comes from somebody who is there.
    connection.once('error', (error) => end(!['ECONNREFUSED', 'ENOENT', 'ENOTSOCK'].includes(systemCode(error))));
  });
}

async function lockPipe(folder: string): Promise<FolderLock> {
  const name = folder.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  try {
    const server = await listen(`\\\\.\\pipe\\nestjs-secrets-audit-${name}`);
    return { isHeld: () => true, release: () => new Promise((resolve) => server.close(() => resolve())) };
  } catch {
    throw busy(folder);
  }
}

function busy(folder: string): AuditFolderError {
  return new AuditFolderError(
    'AUDIT_FOLDER_BUSY',
    `Another process, or another log of this one, writes to the audit folder ${folder}. Give each instance of the application a folder of its own, or end the other one.`,
  );
}
