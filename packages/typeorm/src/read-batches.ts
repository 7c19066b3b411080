import type { StoreEntry } from '@nestjs-secrets/core';
import type { Gather } from './event-loop-turns.js';

interface WaitingRead {
  readonly key: string;
  readonly resolve: (entry: StoreEntry | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** At most so many keys in one question, since each may bring a megabyte. */
const MOST_KEYS = 64;

/**
 * Reads of one turn of the event loop share a question to the database: at a hint, every handle of a process reads at the same moment. Nobody
 * gets an answer to a question that was under way before it asked.
 */
export class ReadBatches {
  #waiting: WaitingRead[] = [];
  #hadCompany = false;

  constructor(
    private readonly read: (keys: readonly string[]) => Promise<readonly StoreEntry[]>,
    private readonly gather: Gather,
  ) {}

  get(key: string): Promise<StoreEntry | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      if (this.#waiting.length === 1) void this.gather(this.#hadCompany).then(() => this.#readAll());
    });
  }

  #readAll(): void {
    const reads = new Map<string, WaitingRead[]>();
    this.#hadCompany = this.#waiting.length > 1;
    for (const read of this.#waiting.splice(0)) reads.set(read.key, [...(reads.get(read.key) ?? []), read]);
    const keys = [...reads.keys()];
    for (let at = 0; at < keys.length; at += MOST_KEYS) void this.#readSome(keys.slice(at, at + MOST_KEYS), reads);
  }

  async #readSome(keys: readonly string[], reads: ReadonlyMap<string, readonly WaitingRead[]>): Promise<void> {
    const waiting = keys.map((key) => reads.get(key) ?? []);
    try {
      const entries = new Map((await this.read(keys)).map((entry) => [entry.key, entry]));
      for (const [index, key] of keys.entries()) {
        // What one reader does with its bytes is no concern of the others.
        for (const { resolve } of waiting[index] ?? []) resolve(copy(entries.get(key)));
      }
    } catch (error) {
      for (const { reject } of waiting.flat()) reject(error);
    }
  }
}

function copy(entry: StoreEntry | undefined): StoreEntry | undefined {
  return entry && { ...entry, value: new Uint8Array(entry.value) };
}
