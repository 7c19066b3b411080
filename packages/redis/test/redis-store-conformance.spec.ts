import { afterAll, beforeAll, it } from '@jest/globals';
import { storeDriverConformance, type ConformanceStore } from '@nestjs-secrets/testing';
import { FaultyLink } from 'nestjs-secrets-test/chaos/faulty-link';
import { describeWithRedis } from 'nestjs-secrets-test/describe-with-redis';
import { startRedis, type RedisServer } from 'nestjs-secrets-test/redis-server';
import { redisStore } from '../src/redis-store.js';

/** For a machine under load. */
const LIMIT_MS = 240_000;

let redis: RedisServer;
let stores = 0;

/** Asks so seldom that whatever the suite hears has been told. */
const patience = (willFail: boolean) => ({ answerWithinMs: willFail ? 1500 : 30_000, pollIntervalMs: 3_600_000 });

async function createStore(willFail: boolean): Promise<ConformanceStore> {
  const { host, admin } = redis;
  const prefix = `store-${stores++}`;
  const link = await FaultyLink.to(redis);
  return {
    connect: () => redisStore({ ...admin, socket: { host, port: link.port } }, { prefix, ...patience(willFail) }),
    dispose: () => link.close(),
    cutOff: async (how) => {
      if (how === 'refused') link.refuse();
      else link.lose();
      return async () => link.mend();
    },
    crash: async () => {
      await redis.kill();
      return () => redis.restart();
    },
  };
}

describeWithRedis('redisStore', () => {
  beforeAll(async () => {
    redis = await startRedis();
  });

  afterAll(() => redis.stop());

  const cases = storeDriverConformance({ shared: true, faults: ['cut-off', 'crash'], createStore });
  for (const { name, run } of cases) it(name, run, LIMIT_MS);
});
