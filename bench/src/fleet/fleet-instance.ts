import { randomBytes } from 'node:crypto';
import { type INestApplicationContext, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  defineSecret,
  localKeyFile,
  type NamedRotator,
  type SecretDefinition,
  SecretsModule,
  type SecretsModuleOptions,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { DataSource } from 'typeorm';
import { SECRET, type StoreAddress } from './fleet-order.js';

const ROTATOR = 'bench/token';

/** A token that no target knows of: what is measured is the way from one instance to the others. */
const tokenRotator: NamedRotator = {
  name: ROTATOR,
  create: () => randomBytes(24).toString('base64url'),
  apply: () => undefined,
  verify: () => undefined,
  retire: () => undefined,
};

export function storeAt({ type, host, port, database, username, password, pollIntervalMs }: StoreAddress): StoreDriver {
  return sqlStore(new DataSource({ type, host, port, database, username, password }), {
    pollIntervalMs,
    // While 200 applications start on a machine of two cores, an answer may take its time.
    answerWithinMs: 30_000,
  });
}

/** One store for several applications of a process, which is open already and none of them closes. */
export function sharedStore(store: StoreDriver): StoreDriver {
  return {
    name: store.name,
    open: () => Promise.resolve(),
    close: () => Promise.resolve(),
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    revision: () => store.revision(),
    commit: (commit) => store.commit(commit),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
  };
}

/** One instance of the fleet: an application of its own, with a heartbeat, an acknowledgement and a live handle of its own. */
export async function startInstance(
  keys: string,
  store: StoreDriver,
  rotate: boolean,
  guarded: Partial<SecretsModuleOptions> = {},
): Promise<{ app: INestApplicationContext; definition: SecretDefinition<string> }> {
  const definition = defineSecret<string>(SECRET, undefined, { initial: 'rotator', rotation: { rotator: ROTATOR } });

  @Module({
    imports: [
      SecretsModule.forRoot({
        store,
        keys: localKeyFile({ path: keys, create: 'if-missing' }),
        rotators: [tokenRotator],
        rotate,
        bootTimeoutMs: 60_000,
        ...guarded,
      }),
      SecretsModule.forFeature([definition]),
    ],
  })
  class App {}

  return { app: await NestFactory.createApplicationContext(App, { logger: ['error'] }), definition };
}
