import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { alibabaKmsKeys, type AlibabaKmsKeysOptions } from '@nestjs-secrets/alibaba';
import { type CmkRef, isSecretsError, type KeyProvider, type SecretsError } from '@nestjs-secrets/core';
import { keyProviderConformance } from '@nestjs-secrets/testing';
import { AlibabaKmsEndpoint } from 'nestjs-secrets-test/kms/alibaba-kms-endpoint';
import { canonicalRequest, signatureOf } from 'nestjs-secrets-test/kms/alibaba-signature';

const DATA_KEY = Buffer.from('a data key that must not be seen');
const PLACE = Buffer.from('store, secret, version');

let endpoint: AlibabaKmsEndpoint;

beforeAll(async () => {
  endpoint = await new AlibabaKmsEndpoint().start();
});
afterAll(() => endpoint.stop());
beforeEach(() => {
  endpoint.server.behaviour = 'answer';
  endpoint.answerAs = undefined;
});

const provide = (keys: AlibabaKmsKeysOptions['keys'], options: Partial<AlibabaKmsKeysOptions> = {}): KeyProvider =>
  alibabaKmsKeys({
    keys,
    client: { regionId: 'cn-hangzhou', endpoint: endpoint.host, protocol: 'http', ...endpoint.credentials },
    ...options,
  });

describe('the signature the endpoint checks by', () => {
  it('comes to the signature published with fixed parameters in the documentation of version 3', () => {
    const headers: Record<string, string> = {
      host: 'ecs.cn-shanghai.aliyuncs.com',
      'x-acs-action': 'RunInstances',
      'x-acs-content-sha256': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      'x-acs-date': '2023-10-26T10:22:32Z',
      'x-acs-signature-nonce': '3156853299f313e23d1673dc12e1703d',
      'x-acs-version': '2014-05-26',
    };
    const url = '/?ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai';
    const canonical = canonicalRequest({ method: 'POST', url, headers, body: Buffer.alloc(0) }, Object.keys(headers));
    expect(signatureOf('YourAccessKeySecret', canonical)).toBe(
      '06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0',
    );
  });
});

describe('alibabaKmsKeys', () => {
  const harness = {
    outlive: true,
    createKeys: async () => {
      const [own, older, others] = [endpoint.makeKey(), endpoint.makeKey(), endpoint.makeKey()];
      return {
        connect: () => provide({ orders: [older.name, own.name] }),
        connectToOthers: () => provide({ orders: [others.name, endpoint.makeKey().name] }),
        dispose: async () => undefined,
      };
    },
  };
  for (const { name, run } of keyProviderConformance(harness)) it(name, run);
});

describe('alibabaKmsKeys and its service', () => {
  const opened: KeyProvider[] = [];
  const open = async (
    keys: AlibabaKmsKeysOptions['keys'],
    options?: Partial<AlibabaKmsKeysOptions>,
  ): Promise<KeyProvider> => {
    const provider = provide(keys, options);
    opened.push(provider);
    await provider.open();
    return provider;
  };
  afterEach(async () => {
    for (const provider of opened.splice(0)) await provider.close();
  });

  const active = (provider: KeyProvider): CmkRef => provider.active() as CmkRef;
  const failure = async (work: unknown): Promise<SecretsError> => {
    const error: unknown = await Promise.resolve(work).then(
      () => 'no failure',
      (reason: unknown) => reason,
    );
    if (!isSecretsError(error)) throw new Error(`not an error of ours: ${inspect(error)}`);
    const shown = inspect(error, { depth: 9, showHidden: true });
    for (const hidden of [DATA_KEY.toString('base64'), DATA_KEY.toString(), endpoint.credentials.accessKeySecret])
      expect(shown).not.toContain(hidden);
    return error;
  };

  it('wraps under the last version of the first key, and opens what older ones have wrapped', async () => {
    const [v1, v2, payroll] = [endpoint.makeKey().name, endpoint.makeKey().name, endpoint.makeKey().name];
    const before = await open({ orders: [v1] });
    const wrapped = await before.wrap(active(before), DATA_KEY, PLACE);
    const after = await open({ orders: [v1, v2], payroll: [payroll] });
    expect(active(after)).toEqual({ id: 'orders', version: 2 });
    expect(await after.unwrap({ id: 'orders', version: 1 }, wrapped, PLACE)).toEqual(DATA_KEY);
    expect(await after.list?.()).toContainEqual({ id: 'payroll', version: 1 });
    const served = endpoint.served.length;
    await after.wrap({ id: 'payroll', version: 1 }, DATA_KEY, PLACE);
    expect(endpoint.served.slice(served)).toEqual([`Encrypt ${payroll}`]);
    // A ciphertext of one key does not pass as one of another that this role may use as well.
    expect((await failure(after.unwrap({ id: 'payroll', version: 1 }, wrapped, PLACE))).code).toBe('KEY_MISMATCH');
  });

  it('believes no answer that names another key', async () => {
    const [key, other] = [endpoint.makeKey().name, endpoint.makeKey().name];
    const provider = await open({ orders: [key] }, { cachedDataKeys: 0 });
    const wrapped = await provider.wrap(active(provider), DATA_KEY, PLACE);
    endpoint.answerAs = other;
    expect((await failure(provider.wrap(active(provider), DATA_KEY, PLACE))).code).toBe('KEY_MISMATCH');
    expect((await failure(provider.unwrap(active(provider), wrapped, PLACE))).message).toContain(other);
  });

  it.each([
    ['disabled', 'EnableKey'],
    ['pending deletion', 'DescribeKey'],
    ['denied', 'kms:Decrypt'],
  ])('says what to do when the key is %s, and asks once', async (state, advice) => {
    const key = endpoint.makeKey();
    const provider = await open({ orders: [key.name] }, { cachedDataKeys: 0 });
    const wrapped = await provider.wrap(active(provider), DATA_KEY, PLACE);
    if (state === 'denied') key.denied.add(endpoint.credentials.accessKeyId);
    else key.state = state === 'disabled' ? 'disabled' : 'pending deletion';
    const before = endpoint.server.requests;
    for (const work of [
      provider.wrap(active(provider), DATA_KEY, PLACE),
      provider.unwrap(active(provider), wrapped, PLACE),
    ]) {
      const { code, message } = await failure(work);
      expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining(advice)]);
    }
    expect(endpoint.server.requests - before).toBe(2);
  });

  it('says that a key does not exist', async () => {
    const provider = await open({ orders: ['key-that-is-not-there'] });
    const { code, message } = await failure(provider.wrap(active(provider), DATA_KEY, PLACE));
    expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining('does not exist')]);
  });

  it.each([
    [
      'credentials that are not known',
      { accessKeyId: 'LTAI-OTHER', accessKeySecret: 'x'.repeat(40) },
      'InvalidAccessKeyId',
    ],
    ['a wrong secret', undefined, 'SignatureDoesNotMatch'],
  ])('says that KMS does not take %s', async (_what, credentials, advice) => {
    const wrong = credentials ?? { ...endpoint.credentials, accessKeySecret: 'y'.repeat(40) };
    const client = { regionId: 'cn-hangzhou', endpoint: endpoint.host, protocol: 'http' as const, ...wrong };
    const provider = await open({ orders: [endpoint.makeKey().name] }, { client, deadlineMs: 3_000 });
    const { code, message } = await failure(provider.wrap(active(provider), DATA_KEY, PLACE));
    expect([code, message]).toEqual(['KEY_UNAVAILABLE', expect.stringContaining(advice)]);
  });

  it.each(['hang', 'cut', 'throttle', 'fail'] as const)(
    'serves on with the data keys it has, and wraps none, when KMS does this: %s',
    async (behaviour) => {
      const limits = { deadlineMs: 3_000, attemptMs: 700, dataKeyMaxAgeMs: 0, concurrency: 4 };
      const provider = await open({ orders: [endpoint.makeKey().name] }, limits);
      const wrapped = await provider.wrap(active(provider), DATA_KEY, PLACE);
      endpoint.server.behaviour = behaviour;
      const before = endpoint.server.requests;
      const wraps = Array.from({ length: 40 }, () => failure(provider.wrap(active(provider), DATA_KEY, PLACE)));
      for (const { code } of await Promise.all(wraps)) expect(code).toBe('KEY_UNAVAILABLE');
      for (let index = 0; index < 200; index += 1)
        expect(await provider.unwrap(active(provider), wrapped, PLACE)).toEqual(DATA_KEY);
      expect(provider.status?.()).toMatchObject({ state: 'away' });
      expect(endpoint.server.requests - before).toBeLessThan(30);
      endpoint.server.behaviour = 'answer';
      for (;;) {
        const back = await Promise.resolve(provider.wrap(active(provider), DATA_KEY, PLACE)).catch(() => undefined);
        if (back !== undefined) break;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      expect(provider.status?.()).toEqual({ state: 'available' });
    },
  );

  it('never has more requests under way than it may, and makes one for all who ask for the same', async () => {
    const key = endpoint.makeKey().name;
    const provider = await open({ orders: [key] }, { concurrency: 3, deadlineMs: 30_000 });
    endpoint.server.mostAtOnce = 0;
    const places = Array.from({ length: 60 }, (_, index) => Buffer.from(`place ${index}`));
    const wrapped = await Promise.all(places.map(async (place) => provider.wrap(active(provider), DATA_KEY, place)));
    expect(endpoint.server.mostAtOnce).toBeLessThanOrEqual(3);
    const other = await open({ orders: [key] }, { deadlineMs: 30_000 });
    const before = endpoint.server.requests;
    const unwrapped = Array.from({ length: 300 }, async (_, index) =>
      other.unwrap(active(other), wrapped[index % 60] ?? PLACE, places[index % 60] ?? PLACE),
    );
    for (const dataKey of await Promise.all(unwrapped)) expect(dataKey).toEqual(DATA_KEY);
    expect(endpoint.server.requests - before).toBe(60);
  });

  it.each([
    ['no key', {}],
    ['a key without a version', { orders: [] }],
    ['an alias', { orders: ['alias/orders'] }],
    ['an ARN', { orders: ['acs:kms:cn-hangzhou:1234567890:key/key-one-of-ours'] }],
    ['an id that is a number', { 7: ['key-one-of-ours'] }],
    ['an id with a space', { 'my key': ['key-one-of-ours'] }],
    [
      'one key twice',
      {
        orders: ['key-one-of-ours'],
        payroll: ['key-one-of-ours'],
      },
    ],
  ])('does not take %s', (_what, keys: AlibabaKmsKeysOptions['keys']) => {
    expect(() => provide(keys)).toThrow(expect.objectContaining({ code: 'KEY_PROVIDER_INVALID' }));
  });
});
