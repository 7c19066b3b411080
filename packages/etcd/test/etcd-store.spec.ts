import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import type { StoreDriver, StoreHint } from '@nestjs-secrets/core';
import { describeWithEtcd } from 'nestjs-secrets-test/describe-with-etcd';
import { startEtcd, type EtcdServer, type EtcdServerOptions } from 'nestjs-secrets-test/etcd-server';
import { eventually } from 'nestjs-secrets-test/eventually';
import { etcdStore, type EtcdStoreOptions } from '../src/etcd-store.js';
import type { EtcdConnection } from '../src/etcd-gateway.js';

const LIMIT_MS = 240_000;
const PATIENT: EtcdStoreOptions = { answerWithinMs: 60_000, pollIntervalMs: 3_600_000 };

let etcd: EtcdServer;
let stores = 0;
const cleanUp: (() => unknown)[] = [];

const newPrefix = (): string => `own-${stores++}`;

async function opened(
  server: EtcdServer,
  options: EtcdStoreOptions = {},
  connection: Partial<EtcdConnection> = {},
): Promise<StoreDriver> {
  const all = { endpoints: server.endpoint, ...server.admin, ...connection };
  const store = etcdStore(all, { ...PATIENT, prefix: newPrefix(), ...options });
  cleanUp.push(() => store.close());
  await store.open();
  return store;
}

async function started(options: EtcdServerOptions): Promise<EtcdServer> {
  const server = await startEtcd(options);
  cleanUp.push(() => server.stop());
  return server;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const value = Buffer.from('value');
const put = (store: StoreDriver, key: string): Promise<number | undefined> =>
  store.commit({ conditions: [], writes: [{ key, value }] });
const writesOf = (count: number) => Array.from({ length: count }, (_, index) => ({ key: `many/${index}`, value }));

const refusal = (message: RegExp) => ({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(message) });
const invalid = (message: RegExp) => ({ code: 'STORE_REQUEST_INVALID', message: expect.stringMatching(message) });

describeWithEtcd('a store on etcd', () => {
  beforeAll(async () => {
    etcd = await startEtcd();
  }, LIMIT_MS);

  afterAll(() => etcd.stop());

  afterEach(async () => {
    for (const clean of cleanUp.splice(0).toReversed()) await clean();
  });

  it(
    'carries out as many writes as a nested transaction takes, and refuses one more without doing anything',
    async () => {
      const server = await started({ flags: { 'max-txn-ops': '16' } });
      const store = await opened(server, { maxTxnOps: 16 });
      for (const count of [1, 15, 16, 17, 56]) {
        const revision = await store.commit({ conditions: [], writes: writesOf(count) });
        const all = await store.list({ prefix: 'many/', limit: 1000 });
        expect(all).toHaveLength(count);
        expect(new Set(all.map((entry) => entry.revision))).toEqual(new Set([revision]));
      }
      const before = await store.revision();
      const attempt = store.commit({ conditions: [], writes: writesOf(57) });
      await expect(attempt).rejects.toMatchObject(invalid(/57 writes; with --max-txn-ops=16 etcd takes 56/));
      expect(await store.revision()).toBe(before);
      // A server that takes less than the store was told says so itself.
      const mistaken = await opened(server);
      const refused = mistaken.commit({ conditions: [], writes: writesOf(100) });
      await expect(refused).rejects.toMatchObject(refusal(/too many operations/));
    },
    LIMIT_MS,
  );

  it(
    'judges more conditions than a transaction takes against competitors, and loses nothing',
    async () => {
      const prefix = newPrefix();
      const drivers = [await opened(etcd, { prefix }), await opened(etcd, { prefix })];
      const conditions = Array.from({ length: 150 }, (_, index) => ({ key: `absent/${index}`, revision: 0 }));
      let given = 0;
      const add = async (driver: StoreDriver): Promise<void> => {
        for (let done = 0; done < 5;) {
          const entry = await driver.get('sum');
          const sum = Buffer.from(String(Number(Buffer.from(entry?.value ?? []).toString()) + 1));
          const committed = await driver.commit({
            conditions: [...conditions, { key: 'sum', revision: entry?.revision ?? 0 }],
            writes: [{ key: 'sum', value: sum }],
          });
          if (committed !== undefined) done += 1;
          given += 1;
        }
      };
      await Promise.all(drivers.map(add));
      expect(given).toBeGreaterThanOrEqual(10);
      expect(Buffer.from((await drivers[0]?.get('sum'))?.value ?? []).toString()).toBe('10');
    },
    LIMIT_MS,
  );

  it('refuses a commit of more bytes than etcd takes, whether the store knows it or only the server', async () => {
    const big = ['a', 'b'].map((key) => ({ key, value: Buffer.alloc(900_000, 'canary-of-etcd ') }));
    for (const maxRequestBytes of [undefined, 10_000_000]) {
      const store = await opened(etcd, maxRequestBytes === undefined ? {} : { maxRequestBytes });
      const failure: unknown = await store.commit({ conditions: [], writes: big }).catch((error: unknown) => error);
      expect(failure).toMatchObject(invalid(/more than etcd takes at once/));
      expect(inspect(failure, { depth: 20, showHidden: true })).not.toMatch(/canary-of|Y2FuYXJ5/);
      expect(await store.revision()).toBe(0);
    }
  });

  it(
    'works with a role that has its prefix and nothing else, and says what is missing',
    async () => {
      const prefix = newPrefix();
      const [name, password] = ['store', 'password-of-the-store'];
      await etcd.post('/v3/auth/user/add', { name, password });
      await etcd.post('/v3/auth/role/add', { name });
      const perm = { permType: 'READWRITE', key: base64(`${prefix}/`), range_end: base64(`${prefix}0`) };
      await etcd.post('/v3/auth/role/grant', { name, perm });
      await etcd.post('/v3/auth/user/grant', { user: name, role: name });
      const user = { username: name, password };
      const store = await opened(etcd, { prefix }, user);
      const heard: StoreHint[] = [];
      store.watch((hint) => heard.push(hint));
      const other = await opened(etcd, { prefix });
      await eventually('a hint at a commit of another', async () => {
        await put(other, 'b');
        return heard.some(({ keys }) => keys?.includes('b'));
      });
      await put(store, 'a');
      expect((await store.list({ prefix: '', limit: 10 })).map(({ key }) => key)).toEqual(['a', 'b']);
      await expect(opened(etcd, {}, user)).rejects.toMatchObject(refusal(/readwrite on the prefix own-\d+\//));
      await expect(opened(etcd, {}, { ...user, password: 'wrong' })).rejects.toMatchObject(refusal(/could not log in/));
      const nobody = { username: undefined, password: undefined };
      await expect(opened(etcd, {}, nobody)).rejects.toMatchObject(refusal(/it wants a user/));
    },
    LIMIT_MS,
  );

  it('counts its own commits only, and is told of no others', async () => {
    const store = await opened(etcd);
    const revision = await put(store, 'a');
    const hints: StoreHint[] = [];
    store.watch((hint) => hints.push(hint));
    await eventually('a watch', async () => {
      await put(store, 'b');
      return hints.length > 0;
    });
    const before = await store.revision();
    expect(before).toBeGreaterThan(revision ?? Infinity);
    await etcd.post('/v3/kv/put', { key: base64('of somebody else'), value: base64('value') });
    expect(await store.revision()).toBe(before);
    expect(await store.commit({ conditions: [], writes: [] })).toBe(before);
    expect(await put(store, 'c')).toBeGreaterThan(before + 1);
  });

  it(
    'goes on to watch and to read after a compaction, and when its token is no longer known',
    async () => {
      const prefix = newPrefix();
      const [here, there] = [await opened(etcd, { prefix }), await opened(etcd, { prefix })];
      const heard: StoreHint[] = [];
      here.watch((hint) => heard.push(hint));
      const told = (key: string): Promise<void> =>
        eventually(`a hint at ${key}`, async () => {
          await put(there, key);
          return heard.some(({ keys }) => keys?.includes(key));
        });
      await told('before');
      await etcd.post('/v3/kv/compaction', { revision: String(await there.revision()), physical: true });
      await told('after/the/compaction');
      // A change of users makes every token an old one.
      await etcd.post('/v3/auth/user/add', { name: newPrefix(), password: 'password' });
      await told('after/a/change/of/users');
      expect(await here.get('before')).toBeDefined();
    },
    LIMIT_MS,
  );

  it('uses the next member when one is away', async () => {
    const store = await opened(etcd, {}, { endpoints: ['http://127.0.0.1:1', etcd.endpoint] });
    expect(await put(store, 'a')).toBeGreaterThan(0);
    expect(await store.get('a')).toBeDefined();
  });

  it(
    'speaks TLS, and trusts nobody it was not told to',
    async () => {
      const server = await started({ tls: true });
      const store = await opened(server, {}, { tls: { ca: server.ca ?? '' } });
      const heard: StoreHint[] = [];
      store.watch((hint) => heard.push(hint));
      await put(store, 'a');
      expect(await store.get('a')).toBeDefined();
      await expect(opened(server)).rejects.toMatchObject(refusal(/could not be reached: .*(certificate|self)/i));
    },
    LIMIT_MS,
  );

  it('says so when what answers is not etcd', async () => {
    const server = createServer((_, response) => response.end('<html>canary</html>'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanUp.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const failure: unknown = await opened(etcd, {}, { endpoints: `http://127.0.0.1:${port}` }).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject(refusal(/did not find the gateway of etcd/));
    expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain('canary');
  });

  it.each([
    [{ endpoints: [] }, {}, /endpoints is empty/],
    [{ endpoints: 'etcd:2379' }, {}, /endpoints\[0\] is not the URL/],
    [{ endpoints: 'http://root:hidden@etcd:2379' }, {}, /endpoints\[0\] is not the URL of a member: (?!.*hidden)/],
    [{ endpoints: 'http://etcd:2379' }, { prefix: 'a b' }, /prefix/],
    [{ endpoints: 'http://etcd:2379' }, { maxTxnOps: 4 }, /maxTxnOps/],
    [{ endpoints: 'http://etcd:2379' }, { maxRequestBytes: 1_048_576 }, /maxRequestBytes/],
    [{ endpoints: 'http://etcd:2379' }, { answerWithinMs: -1 }, /answerWithinMs/],
  ])('refuses %j with %j', (connection, options, message) => {
    expect(() => etcdStore(connection, options)).toThrow(message);
  });
});
