import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Test, type TestingModule } from '@nestjs/testing';
import { awsKmsKeys } from '@nestjs-secrets/aws';
import {
  defineSecret,
  getSecretToken,
  memoryStore,
  type Secret,
  SecretsHealthIndicator,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { AwsKmsEndpoint, AWS_REGION } from 'nestjs-secrets-test/kms/aws-kms-endpoint';
import { eventually } from 'nestjs-secrets-test/eventually';

const token = defineSecret<string>('Token', undefined, { initial: () => 'first-token' });

let endpoint: AwsKmsEndpoint;
let app: TestingModule | undefined;

beforeAll(async () => {
  endpoint = await new AwsKmsEndpoint().start();
});
afterAll(() => endpoint.stop());
afterEach(async () => {
  endpoint.server.behaviour = 'answer';
  await app?.close();
  app = undefined;
});

describe('an application while KMS is away', () => {
  it('serves what it has opened, writes nothing, says so in its health, and goes on by itself', async () => {
    const keys = awsKmsKeys({
      keys: { app: [endpoint.makeKey().name] },
      client: { region: AWS_REGION, endpoint: endpoint.url, credentials: endpoint.credentials },
      attemptMs: 500,
      dataKeyMaxAgeMs: 0,
    });
    app = await Test.createTestingModule({
      imports: [SecretsModule.forRoot({ store: memoryStore(), keys }), SecretsModule.forFeature([token])],
    }).compile();
    await app.init();
    const manager = app.get(SecretsManager);
    const handle = app.get<Secret<string>>(getSecretToken(token), { strict: false });
    const health = (): { degraded: boolean; keys: object } | undefined =>
      app?.get(SecretsHealthIndicator).check()['secrets'];
    expect(health()).toMatchObject({ degraded: false, keys: { state: 'available' } });

    endpoint.server.behaviour = 'hang';
    await expect(manager.putSecretValue('Token', 'second-token')).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
    expect(handle.value).toBe('first-token');
    expect(await manager.getSecretValue('Token')).toMatchObject({ value: 'first-token', versionId: 'v1' });
    expect((await manager.listVersions('Token')).map(({ versionId }) => versionId)).toEqual(['v1']);
    expect(health()).toMatchObject({
      status: 'up',
      degraded: true,
      keys: { state: 'away', reason: expect.stringContaining('AWS KMS') },
    });
    const requests = endpoint.server.requests;
    for (let index = 0; index < 500; index += 1) await manager.getSecretValue('Token');
    expect(endpoint.server.requests - requests).toBeLessThan(10);

    endpoint.server.behaviour = 'answer';
    await eventually('a write goes through', () =>
      manager.putSecretValue('Token', 'second-token').then(
        () => true,
        () => false,
      ),
    );
    await eventually('the handle has the new value', () => handle.value === 'second-token');
    expect(health()).toMatchObject({ degraded: false, keys: { state: 'available' } });
  });

  it('does not start with keys it cannot reach, and says why', async () => {
    endpoint.server.behaviour = 'cut';
    const keys = awsKmsKeys({
      keys: { app: [endpoint.makeKey().name] },
      client: { region: AWS_REGION, endpoint: endpoint.url, credentials: endpoint.credentials },
      deadlineMs: 1_000,
    });
    const starting = Test.createTestingModule({
      imports: [SecretsModule.forRoot({ store: memoryStore(), keys }), SecretsModule.forFeature([token])],
    }).compile();
    await expect(starting).rejects.toMatchObject({ code: 'KEY_UNAVAILABLE' });
  });
});
