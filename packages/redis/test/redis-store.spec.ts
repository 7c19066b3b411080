import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import type { StoreDriver, StoreHint } from '@nestjs-secrets/core';
import { describeWithRedis } from 'nestjs-secrets-test/describe-with-redis';
import { eventually } from 'nestjs-secrets-test/eventually';
import { startRedis, type RedisServer, type RedisServerOptions } from 'nestjs-secrets-test/redis-server';
import { redisStore, type RedisStoreOptions } from '../src/redis-store.js';

let redis: RedisServer;
let stores = 0;
const cleanUp: (() => unknown)[] = [];

const PATIENT: RedisStoreOptions = { answerWithinMs: 30_000, pollIntervalMs: 3_600_000 };
const newPrefix = (): string => `own-${stores++}`;

async function opened(
  server: RedisServer,
  options: RedisStoreOptions = {},
  credentials: { readonly username: string; readonly password: string } = server.admin,
): Promise<StoreDriver> {
  const { host, port } = server;
  const store = redisStore({ ...credentials, socket: { host, port } }, { ...PATIENT, ...options });
  cleanUp.push(() => store.close());
  await store.open();
  return store;
}

async function started(options: RedisServerOptions): Promise<RedisServer> {
  const server = await startRedis(options);
  cleanUp.push(() => server.stop());
  return server;
}

const put = (store: StoreDriver, key: string, value = 'value'): Promise<number | undefined> =>
  store.commit({ conditions: [], writes: [{ key, value: Buffer.from(value) }] });

const refusal = (message: RegExp) => ({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(message) });

describeWithRedis('a store on Redis', () => {
  beforeAll(async () => {
    redis = await startRedis();
  });

  afterAll(() => redis.stop());

  afterEach(async () => {
    for (const clean of cleanUp.splice(0).toReversed()) await clean();
  });

  it.each([
    ['appendonly is off', { appendonly: 'no' }, /set appendonly to yes/],
    ['appendfsync is everysec', { appendfsync: 'everysec' }, /set appendfsync to always/],
    ['it does not sync while it rewrites', { 'no-appendfsync-on-rewrite': 'yes' }, /set no-appendfsync-on-rewrite/],
    ['it may evict', { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' }, /maxmemory-policy to noeviction/],
  ])('refuses a server that would not keep what it acknowledges: %s', async (_, settings, message) => {
    const server = await started({ settings });
    await expect(opened(server)).rejects.toMatchObject(refusal(message));
    const unchecked = await opened(server, { persistence: 'unchecked' });
    expect(await put(unchecked, 'a')).toBe(1);
  });

  it('takes a server that syncs each second where that is asked for, and then asks for no more', async () => {
    const server = await started({ settings: { appendfsync: 'everysec' } });
    expect(await put(await opened(server, { persistence: 'everysec' }), 'a')).toBe(1);
    await server.command('CONFIG', 'SET', 'appendonly', 'no');
    await expect(opened(server, { persistence: 'everysec' })).rejects.toMatchObject(refusal(/appendonly/));
  });

  it('refuses a server whose user default has not the rights to replay transactions', async () => {
    const server = await started({});
    for (const rules of [
      ['reset'],
      ['reset', '+@all'],
      ['reset', '~*', '+@all', '-@write'],
      ['reset', '~*', '+@read'],
    ]) {
      await server.command('ACL', 'SETUSER', 'default', ...rules);
      await expect(opened(server)).rejects.toMatchObject(refusal(/ACL SETUSER default off resetpass ~\* \+@all/));
    }
    await server.command('ACL', 'SETUSER', 'default', 'off', 'resetpass', '~*', '+@all', '-@dangerous');
    expect(await put(await opened(server), 'a')).toBe(1);
  });

  it('looks at the server anew with each connection', async () => {
    const server = await started({});
    const store = await opened(server, { answerWithinMs: 5000 });
    await server.command('CONFIG', 'SET', 'appendfsync', 'no');
    await server.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await eventually('a refusal', () =>
      put(store, 'a').then(
        () => false,
        (error: Error) => /set appendfsync to always/.test(error.message),
      ),
    );
  });

  it('works with the rights that docs/stores.md names, and says which are missing', async () => {
    const prefix = newPrefix();
    const user = { username: 'store', password: 'password-of-the-store' };
    const keys = [`~{${prefix}}:*`, `&{${prefix}}:*`];
    const commands =
      '+get +set +hget +hset +hdel +zadd +zrem +zrangebylex +eval +evalsha +publish +subscribe +wait +info +ping';
    const grant = (...rules: string[]): Promise<unknown> =>
      redis.command('ACL', 'SETUSER', user.username, 'reset', 'on', `>${user.password}`, ...rules);
    await grant(...keys, ...commands.split(' '), '+config|get');
    await expect(opened(redis, { prefix }, user)).rejects.toMatchObject(refusal(/\+acl\|getuser/));
    await grant(...keys, ...commands.split(' '), '+config|get', '+acl|getuser');
    const store = await opened(redis, { prefix }, user);
    const heard: StoreHint[] = [];
    store.watch((hint) => heard.push(hint));
    await put(store, 'a', 'value');
    expect(await store.list({ prefix: '', limit: 10 })).toMatchObject([{ key: 'a', revision: 1 }]);
    const other = await opened(redis, { prefix });
    await eventually('a hint at a commit of another', async () => {
      await put(other, 'b');
      return heard.some(({ keys }) => keys?.includes('b'));
    });
    await store.commit({ conditions: [], writes: [{ key: 'a', value: null }] });
    await expect(opened(redis, { prefix: newPrefix() }, user)).rejects.toMatchObject(refusal(/grant its user ~/));
    await expect(opened(redis, {}, { ...user, password: 'wrong' })).rejects.toMatchObject(refusal(/could not log in/));
  });

  it('goes on with a server that has forgotten its scripts', async () => {
    const store = await opened(redis, { prefix: newPrefix() });
    await put(store, 'a');
    await redis.command('SCRIPT', 'FLUSH');
    expect(await Promise.all([store.get('a'), put(store, 'b'), store.list({ prefix: '', limit: 5 })])).toHaveLength(3);
  });

  it('refuses a server that went back behind what it has seen, and does not write to it', async () => {
    const prefix = newPrefix();
    const store = await opened(redis, { prefix });
    for (let count = 0; count < 3; count++) await put(store, 'a', String(count));
    await redis.command('SET', `{${prefix}}:revision`, '1');
    for (const call of [() => put(store, 'b'), () => store.get('a'), () => store.revision()]) {
      await expect(call()).rejects.toMatchObject(refusal(/went back from revision 3 to 1/));
    }
    expect(await redis.command('HEXISTS', `{${prefix}}:entries`, 'b')).toBe(0);
    expect(await redis.command('GET', `{${prefix}}:revision`)).toBe('1');
  });

  it('takes doubled hints, and whatever else somebody publishes, for hints', async () => {
    const prefix = newPrefix();
    const [here, there] = [await opened(redis, { prefix }), await opened(redis, { prefix })];
    const heard: StoreHint[] = [];
    here.watch((hint) => heard.push(hint), ['secret/']);
    await eventually('a hint', async () => {
      await put(there, 'secret/A');
      return heard.some(({ keys }) => keys?.includes('secret/A'));
    });
    const revision = await there.revision();
    for (const message of [`${revision} secret/A`, `${revision} secret/A`, '', 'x', ' ', '-1 instance/1', '\u0000']) {
      await redis.command('PUBLISH', `{${prefix}}:hints`, message);
    }
    heard.length = 0;
    await eventually('the commit after', async () => {
      await put(there, 'secret/B');
      return heard.some(({ keys }) => keys?.includes('secret/B'));
    });
    expect(heard.flatMap(({ keys }) => keys ?? []).every((key) => key.startsWith('secret/'))).toBe(true);
    expect(Buffer.from((await here.get('secret/A'))?.value ?? '').toString()).toBe('value');
  });

  it('acknowledges with replicas what they have, and refuses when they are away', async () => {
    const primary = await started({});
    const replica = await started({ replicaOf: primary });
    await eventually('a replica in step', async () =>
      /state=online/.test(String(await primary.command('INFO', 'replication'))),
    );
    const store = await opened(primary, { replicas: 1, prefix: 'r', answerWithinMs: 4000 });
    expect(await put(store, 'a')).toBe(1);
    expect(await replica.command('GET', '{r}:revision')).toBe('1');
    await expect(opened(replica)).rejects.toMatchObject(refusal(/connected to a replica \(slave\): point it/));
    await replica.kill();
    await expect(put(store, 'b')).rejects.toMatchObject(refusal(/on 0 of the 1 replicas/));
    // It may have happened, as the error of every commit without an answer says; here it has.
    expect(await store.get('b')).toMatchObject({ revision: 2 });
  });

  it('shows nothing of a value in its errors', async () => {
    const prefix = newPrefix();
    const store = await opened(redis, { prefix });
    await redis.command('SET', `{${prefix}}:entries`, 'of somebody else');
    const failure: unknown = await put(store, 'a', 'canary-of-the-redis-test').catch((error: unknown) => error);
    expect(failure).toMatchObject(refusal(/finds something else under its keys/));
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toMatch(/canary-of|Y2FuYXJ5/);
  });

  it.each([
    [{ prefix: 'a{b' }, /prefix/],
    [{ prefix: '' }, /prefix/],
    [{ persistence: 'never' as 'always' }, /persistence/],
    [{ replicas: 0.5 }, /replicas/],
    [{ answerWithinMs: 0 }, /answerWithinMs/],
    [{ pollIntervalMs: Number.NaN }, /pollIntervalMs/],
  ])('refuses the options %j', (options, message) => {
    expect(() => redisStore({}, options)).toThrow(message);
  });
});
