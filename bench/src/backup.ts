import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportStore, generateBackupIdentity, importStore } from '@nestjs-secrets/backup';
import { localKeyFile, type SecretsManager, SecretsRuntime, systemClock } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import type { Row } from './row.js';

const FEW = 1_000;
const WRITERS = 64;
const SAMPLE_EVERY_MS = 250;
const MIB = 1_048_576;

/**
 * A backup of so many secrets out of one SQLite store and into another: against reading them one by one and making them one by one; and the memory that each takes, against
 * that for 1,000 secrets.
 */
export async function benchBackup({ secrets }: { readonly secrets: number }): Promise<Row[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  try {
    const few = await measure(path.join(folder, 'few'), FEW);
    const many = await measure(path.join(folder, 'many'), secrets);
    const row = (name: string, unit: string, value: number, baseline: number): Row => ({
      name: `backup: ${name}`,
      unit,
      value,
      baseline,
      ratio: value / baseline,
    });
    return [
      row(`export of ${secrets} secrets, against reading each`, 'secrets/s', many.exported, many.read),
      row(`import of them, against making each`, 'secrets/s', many.imported, many.made),
      row(`most memory while exporting, against ${FEW} secrets`, 'MiB', many.exportMemory, few.exportMemory),
      row(`most memory while importing, against ${FEW} secrets`, 'MiB', many.importMemory, few.importMemory),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

interface Figures {
  readonly made: number;
  readonly read: number;
  readonly exported: number;
  readonly imported: number;
  readonly exportMemory: number;
  readonly importMemory: number;
}

async function measure(base: string, secrets: number): Promise<Figures> {
  const { identity, recipient } = await generateBackupIdentity();
  const from = await start(`${base}-from`);
  const to = await start(`${base}-to`);
  const file = `${base}.age`;
  const rate = (ms: number): number => (secrets / ms) * 1000;
  try {
    const made = await timed(() => each(secrets, (place) => from.manager.createSecret(nameOf(place), valueOf(place))));
    const read = await timed(() => each(secrets, (place) => from.manager.getSecretValue(nameOf(place))));
    const exporting = await watched(() => exportStore(from.manager, { file, recipients: recipient }));
    const { signedBy } = exporting.result;
    const importing = await watched(() => importStore(to.manager, { file, identity, signedBy }));
    if (importing.result.imported !== secrets) throw new Error(`${importing.result.imported} were imported`);
    return {
      made: rate(made),
      read: rate(read),
      exported: rate(exporting.ms),
      imported: rate(importing.ms),
      exportMemory: exporting.memory,
      importMemory: importing.memory,
    };
  } finally {
    for (const { runtime } of [from, to]) await runtime.close();
  }
}

async function start(base: string): Promise<{ readonly runtime: SecretsRuntime; readonly manager: SecretsManager }> {
  const timers = { set: (_name: string, delayMs: number, task: () => void) => systemClock.after(delayMs, task) };
  const runtime = await SecretsRuntime.start(
    {
      store: sqliteStore({ path: `${base}.sqlite` }),
      keys: localKeyFile({ path: `${base}.json`, create: 'if-missing' }),
    },
    timers,
  );
  const manager = runtime.own?.manager;
  if (manager === undefined) throw new Error('no manager');
  return { runtime, manager };
}

/** What is in use beyond what was in use before, garbage left out. */
async function watched<T>(work: () => Promise<T>): Promise<{ result: T; ms: number; memory: number }> {
  const before = used();
  let most = before;
  const timer = setInterval(() => (most = Math.max(most, used())), SAMPLE_EVERY_MS);
  const begun = performance.now();
  try {
    const result = await work();
    const ms = performance.now() - begun;
    most = Math.max(most, used());
    return { result, ms, memory: (most - before) / MIB };
  } finally {
    clearInterval(timer);
  }
}

function used(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

async function each(secrets: number, work: (place: number) => Promise<unknown>): Promise<void> {
  let place = 0;
  const call = async (): Promise<void> => {
    while (place < secrets) await work(place++);
  };
  await Promise.all(Array.from({ length: WRITERS }, call));
}

const nameOf = (place: number): string => `backed-up/${place}`;
const valueOf = (place: number): string => `value ${place} `.padEnd(200, 'x');
