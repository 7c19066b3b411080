import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { localKeyFile, SecretsRuntime, systemClock } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import Database from 'better-sqlite3';
import { median, type Row } from './row.js';

const SECRETS = 10_000;
const READERS = 32;
const WRITERS = 64;
const ROUNDS = 3;
/** As many values go into one commit. */
const BATCH = 50;
const READ_ALONE_MS = 3_000;

/**
 * Sealing 10,000 secrets anew on SQLite after their master key was rotated: without load, against bare durable commits of as many rows of the same size; and
 * with 32 readers, against what they read without it.
 */
export async function benchRewrap(): Promise<Row[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const timers = { set: (_name: string, delayMs: number, task: () => void) => systemClock.after(delayMs, task) };
  const runtime = await SecretsRuntime.start(
    {
      store: sqliteStore({ path: path.join(folder, 'store.sqlite') }),
      keys: localKeyFile({ path: path.join(folder, 'keys.json'), create: 'if-missing' }),
    },
    timers,
  );
  const manager = runtime.own?.manager;
  if (manager === undefined) throw new Error('no manager');
  await runtime.startRotating();
  const rotate = (): Promise<unknown> => manager.keys.rotateKey('default', { rewrap: false });
  const rewrap = async (): Promise<number> => {
    await rotate();
    const begun = performance.now();
    const { resealed, failed } = await manager.keys.rewrap({ key: 'default' });
    if (failed > 0 || resealed < SECRETS) throw new Error(`${resealed} were sealed anew and ${failed} were not`);
    return (resealed / (performance.now() - begun)) * 1000;
  };
  const read = async (place: number): Promise<void> => {
    const { value } = await manager.getSecretValue(nameOf(place));
    if (value !== valueOf(place)) throw new Error(`${nameOf(place)} had another value`);
  };
  try {
    await create((place) => manager.createSecret(nameOf(place), valueOf(place)));
    const [alone, bare, beside, readsAlone, readsBeside]: number[][] = [[], [], [], [], []];
    for (let round = 0; round < ROUNDS; round += 1) {
      alone?.push(await rewrap());
      bare?.push(bareCommits(path.join(folder, `bare-${round}.sqlite`)));
      const quiet = new Readers(read);
      await new Promise((resolve) => setTimeout(resolve, READ_ALONE_MS));
      readsAlone?.push(await quiet.stop());
      const readers = new Readers(read);
      beside?.push(await rewrap());
      readsBeside?.push(await readers.stop());
    }
    return [
      row(`rewrap: ${SECRETS} secrets on SQLite, without load`, 'values/s', alone, bare),
      row(`rewrap: the same beside ${READERS} readers, against without`, 'values/s', beside, alone),
      row(`rewrap: reads of ${READERS} readers meanwhile, against without`, 'reads/s', readsBeside, readsAlone),
    ];
  } finally {
    await runtime.stopRotating();
    await runtime.close();
    await rm(folder, { recursive: true });
  }
}

const nameOf = (place: number): string => `rewrapped/${place}`;
const valueOf = (place: number): string => `value ${place} `.padEnd(200, 'x');

async function create(work: (place: number) => Promise<unknown>): Promise<void> {
  let place = 0;
  const call = async (): Promise<void> => {
    while (place < SECRETS) await work(place++);
  };
  await Promise.all(Array.from({ length: WRITERS }, call));
}

/** Read at random; the first read that fails ends the benchmark. */
class Readers {
  readonly #begun = performance.now();
  readonly #done: Promise<unknown>;
  #reads = 0;
  #isReading = true;

  constructor(read: (place: number) => Promise<void>) {
    const one = async (): Promise<void> => {
      while (this.#isReading) {
        await read(Math.floor(Math.random() * SECRETS));
        this.#reads += 1;
      }
    };
    this.#done = Promise.all(Array.from({ length: READERS }, one));
    // Told when they are stopped.
    this.#done.catch(() => undefined);
  }

  /** Reads a second. */
  async stop(): Promise<number> {
    this.#isReading = false;
    await this.#done;
    return (this.#reads / (performance.now() - this.#begun)) * 1000;
  }
}

/** Rows a second that are overwritten in durable commits of the same number, without sealing anything. */
function bareCommits(file: string): number {
  const database = new Database(file);
  try {
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = FULL');
    database.exec('CREATE TABLE bare (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)');
    const upsert = database.prepare(
      'INSERT INTO bare (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
    const batch = database.transaction((from: number) => {
      for (let place = from; place < from + BATCH; place += 1) upsert.run(nameOf(place), randomBytes(371));
    });
    const pass = (): void => {
      for (let from = 0; from < SECRETS; from += BATCH) batch(from);
    };
    pass();
    const begun = performance.now();
    pass();
    return (SECRETS / (performance.now() - begun)) * 1000;
  } finally {
    database.close();
  }
}

function row(name: string, unit: string, ours: readonly number[] = [], baseline: readonly number[] = []): Row {
  const [value, against] = [median(ours), median(baseline)];
  return { name, unit, value, baseline: against, ratio: value / against };
}
