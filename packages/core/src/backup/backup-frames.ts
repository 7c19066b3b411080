import { createHash, type Hash } from 'node:crypto';
import { invalidBackup } from './backup-errors.js';

/**
 * A backup is a sequence of frames: one line of JSON each, an object with a `kind`. Where it says `bytes`, so many bytes follow, and a line end: values travel
 * like that, and are never part of a text, which nobody could zero.
 */
export interface Frame {
  readonly head: Readonly<Record<string, unknown>>;
  /** The caller zeroes it. */
  readonly body: Buffer | undefined;
}

/** More than any record of a store, its journal and its policy take together. */
const LONGEST_LINE = 4 * 1_048_576;
/** What a store takes under one key. */
const LONGEST_BODY = 1_048_576;
const LINE_END = 0x0a;

export function encodeLine(head: object): Buffer {
  return Buffer.from(`${JSON.stringify(head)}\n`);
}

/** A frame with bytes, in a buffer that the caller zeroes. */
export function encodeFrame(head: object, body: Uint8Array): Buffer {
  const line = encodeLine({ ...head, bytes: body.length });
  const frame = Buffer.alloc(line.length + body.length + 1);
  frame.set(line);
  frame.set(body, line.length);
  frame[frame.length - 1] = LINE_END;
  return frame;
}

/** Reads frames from chunks of any size, which are zeroed once they were read, and takes a digest of all that was read so far. */
export class FrameReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #hash: Hash = createHash('sha256');
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#chunks = content[Symbol.asyncIterator]();
  }

  /** SHA-256 of every byte of the frames that were read. */
  digest(): Buffer {
    return this.#hash.copy().digest();
  }

  /**
   * The next frame; undefined at the end.
   * @throws BackupError `BACKUP_INVALID`; what the chunks throw
   */
  async next(): Promise<Frame | undefined> {
    if (!(await this.#more())) return undefined;
    const head = parseHead(await this.#line());
    const { bytes } = head;
    if (bytes === undefined) return { head, body: undefined };
    if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0 || bytes > LONGEST_BODY)
      throw invalidBackup('a part of it has an impossible length');
    return { head, body: await this.#body(bytes) };
  }

  /** Zeroes what is left and lets go of the source. */
  async close(): Promise<void> {
    this.#chunk.fill(0);
    await this.#chunks.return?.();
  }

  async #line(): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let length = 0; length <= LONGEST_LINE;) {
      if (!(await this.#more())) throw invalidBackup('it ends in the middle of a line');
      const end = this.#chunk.indexOf(LINE_END, this.#at);
      const part = this.#take((end < 0 ? this.#chunk.length : end + 1) - this.#at);
      parts.push(part);
      length += part.length;
      if (end >= 0) return Buffer.concat(parts);
    }
    throw invalidBackup('a line of it is too long');
  }

  async #body(length: number): Promise<Buffer> {
    const body = Buffer.alloc(length);
    try {
      for (let filled = 0; filled < length;) {
        if (!(await this.#more())) throw invalidBackup('it ends in the middle of a value');
        const part = this.#take(Math.min(length - filled, this.#chunk.length - this.#at));
        body.set(part, filled);
        part.fill(0);
        filled += part.length;
      }
      if (!(await this.#more()) || this.#take(1)[0] !== LINE_END) throw invalidBackup('a value has another length');
      return body;
    } catch (error) {
      body.fill(0);
      throw error;
    }
  }

  /** A copy of the next bytes of the chunk. */
  #take(length: number): Buffer {
    const part = Buffer.alloc(length);
    part.set(this.#chunk.subarray(this.#at, this.#at + length));
    this.#hash.update(part);
    this.#at += length;
    return part;
  }

  async #more(): Promise<boolean> {
    while (this.#at === this.#chunk.length) {
      this.#chunk.fill(0);
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#chunk = next.value;
      this.#at = 0;
    }
    return true;
  }
}

function parseHead(line: Buffer): Readonly<Record<string, unknown>> {
  try {
    const head: unknown = JSON.parse(line.toString('utf8'));
    if (typeof head === 'object' && head !== null && 'kind' in head && typeof head.kind === 'string')
      return { ...head };
  } catch {
    // What JSON.parse says quotes what it read.
  }
  throw invalidBackup('a line of it is not of this format');
}
