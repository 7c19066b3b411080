import { StoreClosedError, type StoreCommit } from '@nestjs-secrets/core';
import type { Gather } from './event-loop-turns.js';

interface WaitingCommit {
  readonly commit: StoreCommit;
  readonly resolve: (revision: number | undefined) => void;
  readonly reject: (error: unknown) => void;
}

type Transact = (commits: readonly StoreCommit[]) => Promise<readonly (number | undefined)[]>;

/** Commits with more bytes than this do not wait for company, so that a transaction stays a few megabytes. */
const BATCH_BYTES = 4_194_304;

/**
 * Everyone who waits for a commit shares the next transaction: the price of a transaction is one sync of the disk, however much is in it.
 */
export class CommitQueue {
  #waiting: WaitingCommit[] = [];
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;

  constructor(
    private readonly transact: Transact,
    private readonly gather: Gather,
  ) {}

  add(commit: StoreCommit): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ commit, resolve, reject });
      if (!this.#isRunning) this.#running = this.#run();
    });
  }

  /** Refuses whatever has not begun, and resolves when what has is over. */
  async close(storeName: string): Promise<void> {
    for (const { reject } of this.#waiting.splice(0)) reject(new StoreClosedError(storeName));
    await this.#running;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    let hadCompany = false;
    while (this.#waiting.length > 0) {
      // Lets callers join, and lets a process that commits without a pause do its other work in between.
      await this.gather(hadCompany);
      const batch = this.#take();
      hadCompany = batch.length > 1;
      if (batch.length > 0) await this.#carryOut(batch);
    }
    // In one step with the last look at what waits, so that nobody is left behind.
    this.#isRunning = false;
  }

  async #carryOut(batch: readonly WaitingCommit[]): Promise<void> {
    try {
      const outcomes = await this.transact(batch.map((waiting) => waiting.commit));
      for (const [index, { resolve }] of batch.entries()) resolve(outcomes[index]);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  #take(): WaitingCommit[] {
    let bytes = 0;
    let count = 0;
    for (const { commit } of this.#waiting) {
      bytes += commit.writes.reduce((sum, write) => sum + (write.value?.byteLength ?? 0), 0);
      if (count > 0 && bytes > BATCH_BYTES) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }
}
