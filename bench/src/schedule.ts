import { setTimeout } from 'node:timers/promises';
import { type INestApplicationContext, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ephemeralKeys,
  type KeyProvider,
  memoryStore,
  type NamedRotator,
  SecretsManager,
  SecretsModule,
  type StoreDriver,
} from '@nestjs-secrets/core';
import type { Row } from './row.js';

const SECRETS = 10_000;
const AT_ONCE = 50;
const ROTATOR = 'bench/token';

const rotator: NamedRotator = {
  name: ROTATOR,
  create: () => 'a token',
  apply: () => undefined,
  verify: () => undefined,
  retire: () => undefined,
};

/** What an idle process spends on the schedules of 10,000 secrets, none of them due, against one with a single secret: the share of a core in %. */
export async function benchSchedule({ seconds }: { readonly seconds: number }): Promise<Row[]> {
  const many = await idleShare(SECRETS, seconds);
  const one = await idleShare(1, seconds);
  return [
    {
      name: `schedule: ${SECRETS} secrets scheduled, an idle process`,
      value: many,
      baseline: one,
      ratio: many / one,
      unit: '% CPU',
    },
  ];
}

async function idleShare(secrets: number, seconds: number): Promise<number> {
  const store = memoryStore();
  const keys = ephemeralKeys();
  const preparing = await startApp(store, keys, false);
  const manager = preparing.get(SecretsManager);
  for (let begun = 0; begun < secrets; begun += AT_ONCE) {
    const indexes = Array.from({ length: Math.min(AT_ONCE, secrets - begun) }, (_, index) => begun + index);
    await Promise.all(
      indexes.map((index) =>
        manager.createSecret(`secret-${index}`, 'a token', {
          rotation: { rotator: ROTATOR, schedule: { every: `${1 + (index % 300)}d` } },
        }),
      ),
    );
  }
  // The memory store forgets nothing when it is closed and opened again.
  await preparing.close();
  const app = await startApp(store, keys, true);
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  await setTimeout(seconds * 1000);
  const { user, system } = process.cpuUsage(cpu);
  const share = (user + system) / 10 / (performance.now() - start);
  const { rotation } = await app.get(SecretsManager).describeSecret(`secret-${secrets - 1}`);
  if (rotation?.nextRotationAt === undefined) throw new Error('the last secret is not on schedule');
  await app.close();
  return share;
}

async function startApp(store: StoreDriver, keys: KeyProvider, rotate: boolean): Promise<INestApplicationContext> {
  @Module({ imports: [SecretsModule.forRoot({ store, keys, rotators: [rotator], rotate })] })
  class App {}
  return NestFactory.createApplicationContext(App, { logger: ['error'] });
}
