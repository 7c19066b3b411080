import { afterAll, beforeAll, it } from '@jest/globals';
import { storeDriverConformance } from '@nestjs-secrets/testing';
import { describeWithRedis } from 'nestjs-secrets-test/describe-with-redis';
import { startRedis, type RedisServer } from 'nestjs-secrets-test/redis-server';
import { redisStore } from '../src/redis-store.js';

let redis: RedisServer;
let stores = 0;

/** A machine under load may take its time; and it asks so seldom that every hint the suite waits for has been told. */
const patient = (prefix: string) => ({ prefix, answerWithinMs: 30_000, pollIntervalMs: 3_600_000 });

describeWithRedis('redisStore', () => {
  beforeAll(async () => {
    redis = await startRedis();
  });

  afterAll(() => redis.stop());

  const createStore = async () => {
    const { host, port, admin } = redis;
    const prefix = `store-${stores++}`;
    return {
      connect: () => redisStore({ ...admin, socket: { host, port } }, patient(prefix)),
      dispose: async () => undefined,
    };
  };
  for (const { name, run } of storeDriverConformance({ shared: true, createStore })) it(name, run);
});
