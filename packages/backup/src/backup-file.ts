import { randomUUID } from 'node:crypto';
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BackupError, isSecretsError, type SecretsError, syncFolder } from '@nestjs-secrets/core';

const CHUNK_BYTES = 65_536;

/** A file that is there as a whole or not at all: written beside its place, durably, with mode 0600. */
export class NewFile {
  readonly #temporary: string;

  constructor(
    private readonly path: string,
    private readonly overwrite: boolean,
  ) {
    this.#temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.new`);
  }

  /** @throws BackupError `BACKUP_FILE` */
  async write(content: AsyncIterable<Uint8Array>): Promise<void> {
    const file = await this.#attempt(() => open(this.#temporary, 'wx', 0o600));
    try {
      for await (const chunk of content) await this.#attempt(() => writeAll(file, chunk));
      await this.#attempt(() => file.sync());
    } finally {
      await file.close();
    }
  }

  /** Refuses early what `place` would refuse at the end. */
  async check(): Promise<void> {
    if (!this.overwrite && (await exists(this.path))) throw takenFile(this.path);
  }

  /** Puts it in its place. */
  async place(): Promise<void> {
    await this.#attempt(async () => {
      if (this.overwrite) await rename(this.#temporary, this.path);
      else await linkOrRename(this.#temporary, this.path);
      await rm(this.#temporary, { force: true });
      await syncFolder(dirname(this.path));
    });
  }

  /** Takes away what was not placed. */
  async discard(): Promise<void> {
    await rm(this.#temporary, { force: true });
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (codeOf(error) === 'EEXIST') throw takenFile(this.path);
      throw fileError(this.path, 'cannot be written', error);
    }
  }
}

/** A backup that can be read from its beginning more than once. */
export interface OpenedFile {
  chunks(): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** @throws BackupError `BACKUP_FILE` */
export async function openFile(path: string): Promise<OpenedFile> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fileError(path, 'cannot be read', error);
  }
  return { chunks: () => chunksOf(path, file), close: () => file.close() };
}

async function* chunksOf(path: string, file: FileHandle): AsyncGenerator<Uint8Array> {
  for (let at = 0; ;) {
    const buffer = Buffer.alloc(CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, at).catch((error: unknown) => {
      throw fileError(path, 'cannot be read', error);
    });
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let written = 0; written < chunk.length;)
    written += (await file.write(chunk, written, chunk.length - written)).bytesWritten;
}

/** A link, unlike a rename, fails where there is a file already; some file systems have none. */
async function linkOrRename(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (codeOf(error) === 'EEXIST' || (await exists(to))) throw takenFile(to);
    await rename(from, to);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch {
    return false;
  }
}

function takenFile(path: string): BackupError {
  return new BackupError(
    'BACKUP_FILE',
    `There is a file ${path} already. Give each backup a name of its own, or overwrite: true.`,
  );
}

function fileError(path: string, what: string, error: unknown): SecretsError {
  if (isSecretsError(error)) return error;
  return new BackupError('BACKUP_FILE', `The backup ${path} ${what} (${codeOf(error)}).`);
}

function codeOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'unknown';
}
