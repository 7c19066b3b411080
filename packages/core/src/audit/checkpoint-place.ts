import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { AuditFolderError, systemCode } from './audit-errors.js';
import type { Checkpoint } from './checkpoint.js';
import { syncFolder, writeAt } from '../foundation/durable-files.js';

/** Where checkpoints go. Keep at least one place where whoever could rewrite the log cannot write. */
export interface CheckpointPlace {
  readonly name: string;
  /** Called once, before anything else. */
  open?(): Promise<void>;
  /** Resolves once it is kept. Checkpoints come in order of their numbers; one may come twice. */
  put(checkpoint: Checkpoint): Promise<void>;
  /** The notes it holds, oldest first. Without it the place cannot be brought up to date after a crash, nor checked by `verifyAudit`. */
  notes?(): AsyncIterable<string>;
  close?(): Promise<void>;
}

const SIGNATURE_MARK = '— ';
const LONGEST_NOTE = 65_536;

/**
 * A file of checkpoints, one note after the other, each durable before `put` resolves (mode 0600). Put one beside the log and one where the
 * application's user may only append, or on another machine.
 */
export function checkpointFile(options: { readonly path: string }): CheckpointPlace & CheckpointNotes {
  return new CheckpointFile(resolve(options.path));
}

/** Notes that `verifyAudit` can read. */
export interface CheckpointNotes {
  readonly name: string;
  notes(): AsyncIterable<string>;
}

/** Notes that were fetched from anywhere: files, an object store, a table. */
export function checkpointNotes(name: string, notes: Iterable<string>): CheckpointNotes {
  return {
    name,
    async *notes() {
      yield* notes;
    },
  };
}

/** Something to do with every checkpoint, such as posting it somewhere; it counts as kept once the promise resolves. */
export function checkpointCallback(
  name: string,
  put: (checkpoint: Checkpoint) => Promise<void> | void,
): CheckpointPlace {
  return { name, put: async (checkpoint) => put(checkpoint) };
}

class CheckpointFile implements CheckpointPlace, CheckpointNotes {
  readonly name: string;
  #file: FileHandle | undefined;
  #size = 0;

  constructor(readonly path: string) {
    this.name = `the checkpoint file ${path}`;
  }

  async open(): Promise<void> {
    try {
      await mkdir(dirname(this.path), { recursive: true, mode: 0o700 });
      this.#file = await open(this.path, 'a+', 0o600);
      await this.#file.close();
      await syncFolder(dirname(this.path));
      this.#file = await open(this.path, 'r+');
    } catch (error) {
      throw new AuditFolderError(
        'AUDIT_FOLDER_UNUSABLE',
        `${this.name} cannot be opened (${systemCode(error)}). Make its folder writable.`,
        error,
      );
    }
    // A note that was cut short when the process died is written again, whole.
    let size = 0;
    for await (const note of this.notes()) size += Buffer.byteLength(note);
    this.#size = size;
    await this.#file.truncate(size);
  }

  async put(checkpoint: Checkpoint): Promise<void> {
    if (this.#file === undefined) await this.open();
    const file = this.#file;
    if (file === undefined) return;
    const bytes = Buffer.from(checkpoint.note);
    if ((await file.stat()).nlink === 0) {
      await file.close();
      this.#file = undefined;
      throw new AuditFolderError('AUDIT_FOLDER_UNUSABLE', `${this.name} was deleted. It is made anew.`);
    }
    await writeAt(file, bytes, this.#size);
    await file.datasync();
    this.#size += bytes.length;
  }

  async *notes(): AsyncIterable<string> {
    let text = '';
    const file = await openToRead(this.path);
    if (file === undefined) return;
    try {
      const stream = file.createReadStream({ encoding: 'utf8', start: 0, autoClose: false });
      for await (const chunk of stream) {
        text += String(chunk);
        const { notes, rest } = splitNotes(text);
        yield* notes;
        text = rest;
        if (text.length > LONGEST_NOTE) break;
      }
    } finally {
      await file.close();
    }
    // The last note has no successor to end it; it is whole when its signature line is.
    if (isWholeNote(text)) yield text;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

async function openToRead(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Notes whose end is sure, since another one begins behind it. */
function splitNotes(text: string): { readonly notes: string[]; readonly rest: string } {
  const notes: string[] = [];
  let start = 0;
  for (let at = text.indexOf(`\n\n${SIGNATURE_MARK}`); at !== -1; at = text.indexOf(`\n\n${SIGNATURE_MARK}`, start)) {
    let end = text.indexOf('\n', at + 2);
    while (end !== -1 && text.startsWith(SIGNATURE_MARK, end + 1)) end = text.indexOf('\n', end + 1);
    // As long as nothing follows, another signature of the same note could.
    if (end === -1 || end + SIGNATURE_MARK.length >= text.length) break;
    notes.push(text.slice(start, end + 1));
    start = end + 1;
  }
  return { notes, rest: text.slice(start) };
}

function isWholeNote(text: string): boolean {
  return text.endsWith('\n') && text.includes(`\n\n${SIGNATURE_MARK}`);
}
