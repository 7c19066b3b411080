import { cryptoRandomness, systemClock, type Secret, type SecretSource } from '@nestjs-secrets/core';
import { SecretsModule, getSecretToken } from '@nestjs-secrets/core';
import { NestFactory } from '@nestjs/core';
import { Module } from '@nestjs/common';
import { compare, type Row } from './row.js';

const ROUNDS = 15;
const READS = 5_000_000;
const AWAITED_READS = 300_000;

interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** Reading `secret.value` in a hot loop, against a plain property, a `Map` and an awaited cache. */
export async function benchRead(): Promise<Row[]> {
  const credentials: Credentials = { username: 'app', password: cryptoRandomness.bytes(16).toString('hex') };
  const source: SecretSource = {
    name: 'bench',
    fetch: async (name) => ({
      name,
      versionId: 'v1',
      value: credentials,
      promotion: 1,
      rolledBack: false,
      expiresAt: undefined,
    }),
    candidates: async () => [],
    watch: () => () => undefined,
  };
  @Module({
    imports: [
      SecretsModule.forRoot({ source, clock: systemClock, refreshIntervalMs: 0 }),
      SecretsModule.forFeature(['MyDbCreds']),
    ],
  })
  class App {}
  const app = await NestFactory.createApplicationContext(App, { logger: false });
  const secret = app.get<Secret<Credentials>>(getSecretToken('MyDbCreds'), { strict: false });
  const holder = { value: credentials };
  const map = new Map([['MyDbCreds', credentials]]);
  const cache = { get: async (name: string): Promise<Credentials | undefined> => map.get(name) };

  const live = nanoseconds(READS, () => secret.value.password.length);
  const property = nanoseconds(READS, () => holder.value.password.length);
  const fromMap = nanoseconds(READS, () => map.get('MyDbCreds')?.password.length ?? 0);
  const awaited = async (): Promise<number> => {
    const start = process.hrtime.bigint();
    let sum = 0;
    for (let read = 0; read < AWAITED_READS; read += 1) sum += (await cache.get('MyDbCreds'))?.password.length ?? 0;
    return perRead(start, AWAITED_READS, sum);
  };
  // Unmeasured rounds, for the compiler.
  for (let round = 0; round < 3; round += 1) for (const warmUp of [live, property, fromMap, awaited]) await warmUp();
  const rows = [
    await compare('read: secret.value against a property', 'ns', ROUNDS, live, property),
    await compare('read: secret.value against a Map', 'ns', ROUNDS, live, fromMap),
    await compare('read: secret.value against an awaited cache', 'ns', ROUNDS, live, awaited),
  ];
  await app.close();
  return rows;
}

function nanoseconds(times: number, read: () => number): () => number {
  return () => {
    const start = process.hrtime.bigint();
    let sum = 0;
    for (let count = 0; count < times; count += 1) sum += read();
    return perRead(start, times, sum);
  };
}

/** The sum is looked at so that no compiler can leave the reads out. */
function perRead(start: bigint, times: number, sum: number): number {
  const elapsed = Number(process.hrtime.bigint() - start);
  if (sum !== times * 32) throw new Error('a read gave something else');
  return elapsed / times;
}
