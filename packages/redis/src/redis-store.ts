import { RemoteStore, StoreOptionsError, type StoreDriver } from '@nestjs-secrets/core';
import type { RedisClientOptions } from '@redis/client';
import { RedisBackend } from './redis-backend.js';
import { RedisLink } from './redis-link.js';
import { StoreKeys } from './store-keys.js';
import type { RedisPersistence } from './server-demands.js';

export interface RedisStoreOptions {
  /**
   * What all keys and the channel of the store begin with, in braces, so that Redis Cluster keeps them together; `nestjs_secrets` by default.
   */
  readonly prefix?: string;
  /** How durable the server has to be, which is looked at on every connection; `'always'` by default. */
  readonly persistence?: RedisPersistence;
  /**
   * How many replicas must have a commit before it is acknowledged; 0 by default, where a fail-over loses what the primary had not sent on.
   * When they do not answer in time the commit rejects with `STORE_UNAVAILABLE`, as one that may have happened.
   */
  readonly replicas?: number;
  /** After this time without an answer a call rejects with `STORE_UNAVAILABLE`, in milliseconds; 5000 by default. */
  readonly answerWithinMs?: number;
  /**
   * How often to look for commits of other processes, in milliseconds; 500 by default. Redis tells of them, and is asked only for as long as
   * the connection that listens is away.
   */
  readonly pollIntervalMs?: number;
}

/**
 * A store on one Redis server, version 6 or later. It makes connections of its own from the options of `@redis/client`: one for its calls, and
 * one that listens while somebody watches. It reconnects by itself; `socket.reconnectStrategy` is not used.
 *
 * Redis replicates after it has acknowledged: read what `docs/stores.md` says about fail-over before a fleet depends on it.
 * @throws StoreOptionsError for an option out of range.
 */
export function redisStore(connection: RedisClientOptions, options: RedisStoreOptions = {}): StoreDriver {
  const { prefix = 'nestjs_secrets', persistence = 'always', replicas = 0 } = options;
  const { answerWithinMs = 5000, pollIntervalMs = 500 } = options;
  if (!/^[!-z|~]{1,128}$/.test(prefix)) {
    throw new StoreOptionsError(
      `${JSON.stringify(prefix.slice(0, 64))} is not a prefix for Redis: use 1–128 printable ASCII characters without spaces and braces.`,
    );
  }
  if (!['always', 'everysec', 'unchecked'].includes(persistence)) {
    throw new StoreOptionsError(`persistence is ${JSON.stringify(persistence)}: use always, everysec or unchecked.`);
  }
  if (!Number.isInteger(replicas) || replicas < 0) {
    throw new StoreOptionsError(`replicas is ${replicas}: use a whole number, 0 or more.`);
  }
  for (const [name, value] of Object.entries({ answerWithinMs, pollIntervalMs })) {
    if (!Number.isFinite(value) || value < 1) {
      throw new StoreOptionsError(`${name} is ${value}: use milliseconds, 1 or more.`);
    }
  }
  const limits = { answerWithinMs: Math.ceil(answerWithinMs), pollIntervalMs };
  const newLink = (): RedisLink => new RedisLink(connection, persistence, limits.answerWithinMs);
  const link = newLink();
  const commits = replicas === 0 ? link : newLink();
  const backend = new RedisBackend(link, commits, new StoreKeys(prefix), replicas, limits.answerWithinMs);
  return new RemoteStore(backend, limits);
}
