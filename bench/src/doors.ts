import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type AuditOptions,
  localKeyFile,
  type PoliciesOptions,
  type SecretsManager,
  SecretsRuntime,
  systemClock,
} from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { compare, type Row } from './row.js';

const ROUNDS = 9;
const CALLERS = 64;
const READS = 8_000;
const PUTS = 400;
const SECRETS = 100;

const POLICIES: PoliciesOptions = {
  builtIn: [
    {
      name: 'bench',
      principals: ['application/app'],
      document: {
        Version: '1',
        Statement: [
          { Effect: 'Allow', Action: '*', Resource: ['secret/bench/*', 'store'] },
          { Effect: 'Deny', Action: 'secrets:GetSecretValue', Resource: 'secret/bench/closed' },
        ],
      },
    },
  ],
};

interface Side {
  readonly manager: SecretsManager;
  close(): Promise<void>;
}

/** Operations of 64 callers with policies and an audit log in files, against the same without either; both over SQLite and a key file. */
export async function benchDoors(): Promise<Row[]> {
  const guarded = await start((folder) => ({ policies: POLICIES, audit: { folder: path.join(folder, 'audit') } }));
  const bare = await start(() => ({ policies: { enforce: 'off' } }));
  const rows: Row[] = [];
  try {
    const against = async (
      what: string,
      times: number,
      run: (manager: SecretsManager, count: number) => Promise<unknown>,
    ) => {
      const ours = (): Promise<number> => rateOf(times, (count) => run(guarded.manager, count));
      const theirs = (): Promise<number> => rateOf(times, (count) => run(bare.manager, count));
      // Unmeasured rounds, for the compiler.
      for (let round = 0; round < 3; round += 1) for (const warmUp of [ours, theirs]) await warmUp();
      rows.push(await compare(`doors: ${what}, ${CALLERS} callers, guarded against bare`, '1/s', ROUNDS, ours, theirs));
    };
    await against('getSecretValue', READS, (manager, count) => manager.getSecretValue(nameOf(count)));
    await against('putSecretValue', PUTS, (manager, count) => manager.putSecretValue(nameOf(count), { count }));
    return rows;
  } finally {
    await guarded.close();
    await bare.close();
  }
}

async function start(
  options: (folder: string) => { readonly policies?: PoliciesOptions; readonly audit?: AuditOptions },
): Promise<Side> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const runtime = await SecretsRuntime.start(
    {
      store: sqliteStore({ path: path.join(folder, 'store.sqlite') }),
      keys: localKeyFile({ path: path.join(folder, 'keys.json'), create: 'if-missing' }),
      ...options(folder),
    },
    { set: (_name, delayMs, task) => systemClock.after(delayMs, task) },
  );
  const manager = runtime.own?.manager;
  if (manager === undefined) throw new Error('There is no manager.');
  for (let count = 0; count < SECRETS; count += 1)
    await manager.createSecret(nameOf(count), { username: 'bench', password: 'a password of a usual length' });
  return {
    manager,
    async close() {
      await runtime.close();
      await rm(folder, { recursive: true });
    },
  };
}

function nameOf(count: number): string {
  return `bench/secret-${count % SECRETS}`;
}

async function rateOf(times: number, work: (count: number) => Promise<unknown>): Promise<number> {
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < times) await work(next++);
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return (times * 1000) / (performance.now() - start);
}
