import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { awsKmsKeys, type AwsKmsKeysOptions } from '@nestjs-secrets/aws';
import { type CmkRef, isSecretsError, type KeyProvider, type SecretsError } from '@nestjs-secrets/core';
import { keyProviderConformance } from '@nestjs-secrets/testing';
import { AwsKmsEndpoint, AWS_REGION } from 'nestjs-secrets-test/kms/aws-kms-endpoint';
import { canonicalRequest, signatureOf, signingKey, stringToSign } from 'nestjs-secrets-test/kms/aws-signature';

const DATA_KEY = Buffer.from('a data key that must not be seen');
const PLACE = Buffer.from('store, secret, version');

let endpoint: AwsKmsEndpoint;

beforeAll(async () => {
  endpoint = await new AwsKmsEndpoint().start();
});
afterAll(() => endpoint.stop());
beforeEach(() => {
  endpoint.server.behaviour = 'answer';
  endpoint.answerAs = undefined;
  endpoint.now = () => Date.now();
});

const provide = (keys: AwsKmsKeysOptions['keys'], options: Partial<AwsKmsKeysOptions> = {}): KeyProvider =>
  awsKmsKeys({
    keys,
    client: { region: AWS_REGION, endpoint: endpoint.url, credentials: endpoint.credentials },
    ...options,
  });

describe('the signature the endpoint checks by', () => {
  // The key of the examples in AWS's documentation, and "get-vanilla" of the test suite AWS published for Signature Version 4.
  const secret = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';

  it('derives the signing key of the published example', () => {
    expect(signingKey(secret, { date: '20150830', region: 'us-east-1', service: 'iam' }).toString('hex')).toBe(
      'c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9',
    );
  });

  it.each([
    [
      'get-vanilla',
      'service',
      '/',
      { host: 'example.amazonaws.com', 'x-amz-date': '20150830T123600Z' },
      '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
    ],
    [
      'the request to IAM of the developer guide',
      'iam',
      '/?Action=ListUsers&Version=2010-05-08',
      {
        'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
        host: 'iam.amazonaws.com',
        'x-amz-date': '20150830T123600Z',
      },
      '5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
    ],
  ])('comes to the published signature: %s', (_name, service, url, headers: Record<string, string>, signature) => {
    const scope = { date: '20150830', region: 'us-east-1', service };
    const canonical = canonicalRequest({ method: 'GET', url, headers, body: Buffer.alloc(0) }, Object.keys(headers));
    expect(signatureOf(secret, scope, stringToSign('20150830T123600Z', scope, canonical))).toBe(signature);
  });
});

describe('awsKmsKeys', () => {
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

describe('awsKmsKeys and its service', () => {
  const opened: KeyProvider[] = [];
  const open = async (keys: AwsKmsKeysOptions['keys'], options?: Partial<AwsKmsKeysOptions>): Promise<KeyProvider> => {
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
    for (const hidden of [DATA_KEY.toString('base64'), DATA_KEY.toString(), endpoint.credentials.secretAccessKey])
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
    ['disabled', 'enable-key'],
    ['pending deletion', 'describe-key'],
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
    const provider = await open({ orders: ['arn:aws:kms:eu-central-1:111122223333:key/none'] });
    const { code, message } = await failure(provider.wrap(active(provider), DATA_KEY, PLACE));
    expect([code, message]).toEqual(['KEY_REFUSED', expect.stringContaining('does not exist')]);
  });

  it.each([
    ['credentials that are not known', { accessKeyId: 'AKIDOTHER', secretAccessKey: 'x'.repeat(40) }, 'Unrecognized'],
    ['a wrong secret', undefined, 'InvalidSignatureException'],
  ])('says that KMS does not take %s', async (_what, credentials, advice) => {
    const wrong = credentials ?? { ...endpoint.credentials, secretAccessKey: 'y'.repeat(40) };
    const client = { region: AWS_REGION, endpoint: endpoint.url, credentials: wrong };
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
    ['the ARN of an alias', { orders: ['arn:aws:kms:eu-central-1:111122223333:alias/orders'] }],
    ['an id that is a number', { 7: ['arn:aws:kms:eu-central-1:111122223333:key/one'] }],
    ['an id with a space', { 'my key': ['arn:aws:kms:eu-central-1:111122223333:key/one'] }],
    [
      'one key twice',
      {
        orders: ['arn:aws:kms:eu-central-1:111122223333:key/one'],
        payroll: ['arn:aws:kms:eu-central-1:111122223333:key/one'],
      },
    ],
  ])('does not take %s', (_what, keys: AwsKmsKeysOptions['keys']) => {
    expect(() => provide(keys)).toThrow(expect.objectContaining({ code: 'KEY_PROVIDER_INVALID' }));
  });
});
