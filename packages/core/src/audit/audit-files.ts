import { mkdirSync, statSync } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { isSecretsError } from '../foundation/errors.js';
import { type ChainHead, emptyChain, type SealedRecord } from './audit-chain.js';
import { AuditFolderError, AuditOptionsError, systemCode } from './audit-errors.js';
import { auditFileName, auditFileNumber, sealFileHeader } from './audit-file-header.js';
import { recoverFile } from './audit-file-recovery.js';
import { auditFilesIn, auditFolder } from './audit-folder-reader.js';
import type { AuditReader } from './audit-reader.js';
import type { AuditSink, AuditSinkContext, AuditSinkState } from './audit-sink.js';
import { syncFolder, writeAt } from '../foundation/durable-files.js';
import { type FolderLock, lockFolder } from './folder-lock.js';

export interface AuditFilesOptions {
  /** Relative to the working directory, unless absolute; made (0700) where it is missing. Each instance of an application needs its own. */
  readonly folder: string;
  /** A file larger than this is followed by a new one; 64 MiB by default. */
  readonly maxFileBytes?: number;
  /** A file older than this is followed by a new one, in milliseconds; 24 hours by default. */
  readonly maxFileAgeMs?: number;
  /** How files are opened; `open` of `node:fs/promises` by default. */
  readonly openFile?: (path: string, flags: string, mode: number) => Promise<FileHandle>;
}

/**
 * The default sink: numbered files of one JSON object a line (mode 0600), each opening with a header that links it to the one before.
 *
 * `open()` repairs what a process that died left half-written. It throws `AuditFolderError` (`AUDIT_FOLDER_BUSY` when another process has the folder,
 * `AUDIT_FOLDER_EXPOSED` when others may look into it, `AUDIT_FOLDER_UNUSABLE`) and `AuditLogDamagedError` when the last file was changed.
 */
export function auditFiles(options: AuditFilesOptions): AuditSink & { readonly reader: AuditReader } {
  return new AuditFiles(options);
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly path: string;
  readonly inode: number;
  readonly begun: number;
  /** Where the next record goes; everything before it is durable. */
  size: number;
  /** Something was written behind `size` and did not get through. */
  isDirty: boolean;
}

class AuditFiles implements AuditSink {
  readonly name: string;
  readonly reader: AuditReader;
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #openFile: (path: string, flags: string, mode: number) => Promise<FileHandle>;
  #context: AuditSinkContext | undefined;
  #lock: FolderLock | undefined;
  #file: OpenFile | undefined;
  #number = 0;
  #head: ChainHead | undefined;
  /** One write at a time, whatever the callers do. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: AuditFilesOptions) {
    this.#folder = resolve(options.folder);
    this.#maxBytes = options.maxFileBytes ?? 64 * 1_048_576;
    this.#maxAgeMs = options.maxFileAgeMs ?? 24 * 3_600_000;
    this.#openFile = options.openFile ?? open;
    if (!(this.#maxBytes >= 1) || !(this.#maxAgeMs >= 1)) {
      throw new AuditOptionsError('maxFileBytes and maxFileAgeMs of auditFiles are at least 1.');
    }
    this.name = `the audit files in ${this.#folder}`;
    this.reader = auditFolder(this.#folder);
  }

  async open(context: AuditSinkContext): Promise<AuditSinkState> {
    this.#context = context;
    this.#makeFolder();
    this.#lock = await lockFolder(this.#folder, context.randomness);
    try {
      return await this.#recover(context);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  append(records: readonly SealedRecord[]): Promise<void> {
    const done = this.#turn.then(() => this.#append(records));
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    await this.#turn;
    const [file, lock] = [this.#file, this.#lock];
    this.#head = undefined;
    this.#file = undefined;
    this.#lock = undefined;
    await file?.handle.close();
    await lock?.release();
  }

  #makeFolder(): void {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw this.#unusable('cannot be made', error);
    }
    const { mode } = statSync(this.#folder);
    if (process.geteuid !== undefined && (mode & 0o077) !== 0) {
      throw new AuditFolderError(
        'AUDIT_FOLDER_EXPOSED',
        `Others than its owner may use the audit folder ${this.#folder} (mode ${(mode & 0o777).toString(8).padStart(4, '0')}). Run: chmod 700 '${this.#folder}'`,
      );
    }
  }

  async #recover(context: AuditSinkContext): Promise<AuditSinkState> {
    const [key] = context.keys;
    if (key === undefined) throw new AuditOptionsError('An audit log needs a key.');
    let repairedBytes = 0;
    try {
      for (const path of (await auditFilesIn(this.#folder)).toReversed()) {
        const number = auditFileNumber(basename(path)) ?? 0;
        const { head, size, cut, begun } = await recoverFile(path, number, context.keys);
        repairedBytes += cut;
        if (head !== undefined) {
          this.#number = number;
          this.#head = head;
          this.#file = await this.#opened(await this.#openFile(path, 'r+', 0o600), path, size, begun);
          return { head, repairedBytes };
        }
        // Begun and not even its header got through: whatever it was, nothing is in it.
        await rm(path);
      }
    } catch (error) {
      if (isSecretsError(error, 'AUDIT_LOG_DAMAGED')) throw error;
      throw this.#unusable('cannot be read and written', error);
    }
    this.#head = emptyChain(key);
    return { head: this.#head, repairedBytes };
  }

  async #append(records: readonly SealedRecord[]): Promise<void> {
    const head = this.#head;
    if (head === undefined || this.#context === undefined) throw this.#unusable('is closed');
    const fresh = records.filter(({ sequence }) => sequence > head.sequence);
    const last = fresh.at(-1);
    if (last === undefined) return;
    if (fresh[0]?.sequence !== head.sequence + 1) throw this.#unusable('was given records out of order');
    const bytes = Buffer.concat(fresh.map((record) => record.bytes));
    try {
      let file = await this.#fileFor(head);
      await this.#write(file, bytes);
      // Only now: a file removed before it was synced is found either way.
      if (this.#isGone(file)) {
        file = await this.#replace(head);
        await this.#write(file, bytes);
      }
      file.size += bytes.length;
      this.#head = { sequence: last.sequence, mac: last.mac, tree: last.tree };
    } catch (error) {
      if (isSecretsError(error)) throw error;
      throw this.#unusable('cannot be written', error);
    }
  }

  async #write(file: OpenFile, bytes: Buffer): Promise<void> {
    if (file.isDirty) await file.handle.truncate(file.size);
    file.isDirty = true;
    await writeAt(file.handle, bytes, file.size);
    await file.handle.datasync();
    file.isDirty = false;
  }

  async #fileFor(head: ChainHead): Promise<OpenFile> {
    const file = this.#file;
    if (file === undefined) return this.#begin(head);
    const age = (this.#context?.clock.now() ?? 0) - file.begun;
    if (file.size < this.#maxBytes && age < this.#maxAgeMs) return file;
    const next = await this.#begin(head);
    await file.handle.close();
    return next;
  }

  /** Goes on in a new file when somebody took the old one away: the gap stays visible, and nothing from now on is lost. */
  async #replace(head: ChainHead): Promise<OpenFile> {
    const old = this.#file;
    this.#file = undefined;
    // Should it come back, it must not hold what comes to stand in the new file.
    await old?.handle.truncate(old.size).catch(() => undefined);
    await old?.handle.close();
    this.#context?.warn(
      `${old?.path ?? 'An audit file'} was removed or replaced while it was written. The log goes on in a new file.`,
    );
    return this.#begin(head);
  }

  async #begin(head: ChainHead): Promise<OpenFile> {
    const [key] = this.#context?.keys ?? [];
    if (key === undefined || this.#context === undefined) throw this.#unusable('is closed');
    await this.#keepLock(this.#context);
    const number = this.#number + 1;
    const path = join(this.#folder, auditFileName(number));
    const now = this.#context.clock.now();
    const header = Buffer.from(`${sealFileHeader(key, number, head, new Date(now).toISOString())}\n`);
    const handle = await this.#openFile(path, 'wx', 0o600);
    try {
      await writeAt(handle, header, 0);
      await handle.sync();
      await syncFolder(this.#folder);
      this.#file = await this.#opened(handle, path, header.length, now);
    } catch (error) {
      // Its number is free again for the next attempt.
      await handle.close();
      await rm(path, { force: true });
      throw error;
    }
    this.#number = number;
    return this.#file;
  }

  /** A folder that was taken away and put back has lost the lock that was in it. */
  async #keepLock(context: AuditSinkContext): Promise<void> {
    if (this.#lock?.isHeld() === true) return;
    await stat(this.#folder);
    await this.#lock?.release();
    this.#lock = undefined;
    this.#lock = await lockFolder(this.#folder, context.randomness);
  }

  async #opened(handle: FileHandle, path: string, size: number, begun: number): Promise<OpenFile> {
    const { ino } = await handle.stat();
    return { handle, path, inode: ino, begun, size, isDirty: true };
  }

  #isGone({ path, inode }: OpenFile): boolean {
    // Synchronous: it answers from the kernel's cache in a few microseconds, and runs once a group of events.
    return statSync(path, { throwIfNoEntry: false })?.ino !== inode;
  }

  #unusable(what: string, error?: unknown): AuditFolderError {
    const hints: Record<string, string> = {
      ENOSPC: 'Free some space on its file system.',
      EDQUOT: 'Raise its quota.',
      EFBIG: 'Raise the limit on file sizes (ulimit -f), or lower maxFileBytes.',
      EROFS: 'Mount its file system writable.',
      EACCES: 'Give it to the user of the process.',
      EPERM: 'Give it to the user of the process.',
      ENOENT: 'Put the folder back, or make it anew: mkdir -m 700.',
    };
    const code = systemCode(error);
    const why = error === undefined ? '' : ` (${code})`;
    return new AuditFolderError(
      'AUDIT_FOLDER_UNUSABLE',
      `The audit folder ${this.#folder} ${what}${why}. ${hints[code] ?? 'Check its owner and its file system.'}`,
      error,
    );
  }
}
