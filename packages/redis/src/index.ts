export { redisStore, type RedisStoreOptions } from './redis-store.js';
export type { RedisPersistence } from './server-demands.js';
