import { readFile, rename, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Cancel, Clock } from '../foundation/clock.js';
import { StoreIntegrityError } from './integrity-findings.js';
import type { SeenState } from './manifest.js';

/** A store that is seen to go on is written down this often at most. */
const PAUSE_MS = 1_000;

interface Content {
  readonly format: 1;
  readonly storeId: string;
  readonly sequence: number;
  readonly mac: string;
}

/** The newest state of a store that this machine has seen, in a file beside the application: for a process that starts after the store was put back. */
export class HighWaterFile {
  readonly #path: string;
  #newest: SeenState | undefined;
  #written = 0;
  #timer: Cancel | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    path: string,
    private readonly storeId: string,
    private readonly clock: Clock,
  ) {
    this.#path = resolve(path);
  }

  /**
   * What was seen before; undefined where there is no file yet.
   * @throws StoreIntegrityError when it is none of ours, or that of another store
   */
  async read(): Promise<SeenState | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
      if (code === 'ENOENT') return undefined;
      throw this.#invalid(`cannot be read (${String(code)})`);
    }
    const content = parse(text);
    if (content === undefined) throw this.#invalid('does not parse');
    if (content.storeId !== this.storeId)
      throw this.#invalid(`is that of the store ${content.storeId}, and this one is ${this.storeId}`);
    this.#written = content.sequence;
    return { sequence: content.sequence, mac: Buffer.from(content.mac, 'base64') };
  }

  /** Takes note of a newer state, and writes it down soon. */
  see(seen: SeenState): void {
    this.#newest = seen;
    this.#timer ??= this.clock.after(PAUSE_MS, () => {
      this.#timer = undefined;
      void this.#write();
    });
  }

  /** Writes down what was seen last. */
  async close(): Promise<void> {
    this.#timer?.();
    this.#timer = undefined;
    await this.#write();
  }

  async #write(): Promise<void> {
    // One after the other. What cannot be written now is written with the next state: a mark that is late only notices less.
    this.#writing = this.#writing.then(() => this.#writeOnce().catch(() => undefined));
    await this.#writing;
  }

  async #writeOnce(): Promise<void> {
    const seen = this.#newest;
    if (seen === undefined || seen.sequence <= this.#written) return;
    const mac = seen.mac.toString('base64');
    const content: Content = { format: 1, storeId: this.storeId, sequence: seen.sequence, mac };
    const temporary = `${this.#path}.${process.pid}.new`;
    await writeFile(temporary, `${JSON.stringify(content)}\n`, { mode: 0o600 });
    await rename(temporary, this.#path);
    this.#written = seen.sequence;
  }

  #invalid(what: string): StoreIntegrityError {
    return new StoreIntegrityError(
      'INTEGRITY_OPTIONS_INVALID',
      `The high-water file ${this.#path} ${what}. Point \`highWaterFile\` at one of its own for each store; remove the file only if you know why it is so, since it is what notices a store that was put back.`,
    );
  }
}

function parse(text: string): Content | undefined {
  try {
    const content: Content = JSON.parse(text);
    const isSound =
      content.format === 1 &&
      typeof content.storeId === 'string' &&
      Number.isSafeInteger(content.sequence) &&
      typeof content.mac === 'string';
    return isSound ? content : undefined;
  } catch {
    return undefined;
  }
}
