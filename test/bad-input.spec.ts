import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  defineSecret,
  getSecretToken,
  type RotationPolicy,
  type SecretDefinition,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { z } from 'zod';
import { BootedApps, inMemory } from './support/booted-apps.js';
import { CANARY, expectFailure } from './support/expect-failure.js';

const apps = new BootedApps();
afterEach(() => apps.closeAll());

describe('a manager that is asked for what cannot be', () => {
  const token = defineSecret('Token', z.object({ key: z.string() }), { initial: () => ({ key: CANARY }) });
  let manager: SecretsManager;

  beforeEach(async () => {
    manager = (await apps.boot(inMemory(), SecretsModule.forFeature([token]))).get(SecretsManager);
  });
  afterEach(async () => {
    // Nothing lost, whatever was asked.
    expect((await manager.getSecretValue('Token')).value).toEqual({ key: CANARY });
    expect(await manager.listVersions('Token')).toHaveLength(1);
  });

  const large = CANARY.padEnd(65_536, '.');
  const policy = (schedule: unknown): RotationPolicy => ({ rotator: 'any', schedule: schedule as never });

  it.each<[what: string, code: string, ask: () => unknown]>([
    ['an unknown secret', 'SECRET_NOT_FOUND', () => manager.getSecretValue('Nowhere')],
    ['a value for an unknown secret', 'SECRET_NOT_FOUND', () => manager.putSecretValue('Nowhere', CANARY)],
    ['a rotation of an unknown secret', 'SECRET_NOT_FOUND', () => manager.rotateSecret('Nowhere')],
    ['an unknown version', 'VERSION_NOT_FOUND', () => manager.getSecretValue('Token', { versionId: 'v9' })],
    ['an empty name', 'SECRET_NAME_INVALID', () => manager.createSecret('', CANARY)],
    ['a name with a space', 'SECRET_NAME_INVALID', () => manager.createSecret('My Token', CANARY)],
    ['a name with a letter beyond ASCII', 'SECRET_NAME_INVALID', () => manager.getSecretValue('Tökèn')],
    ['a name of 193 characters', 'SECRET_NAME_INVALID', () => manager.putSecretValue('x'.repeat(193), CANARY)],
    [
      'a name that is no string',
      'SECRET_NAME_INVALID',
      () => manager.getSecretValue({ name: 'Token' } as unknown as string),
    ],
    ['a definition with an empty name', 'SECRET_NAME_INVALID', () => defineSecret('')],
    ['the token of an illegal name', 'SECRET_NAME_INVALID', () => getSecretToken('My Token')],
    ['a value that does not fit its schema', 'VALUE_INVALID', () => manager.putSecretValue('Token', { key: [CANARY] })],
    ['a value that is no JSON', 'VALUE_INVALID', () => manager.createSecret('Other', () => CANARY)],
    ['a value past 65,536 bytes', 'VALUE_TOO_LARGE', () => manager.createSecret('Other', large)],
    ['bytes past 65,536', 'VALUE_TOO_LARGE', () => manager.createSecret('Other', Buffer.alloc(65_537, CANARY))],
    ['a second secret of one name', 'SECRET_EXISTS', () => manager.createSecret('Token', { key: 'another' })],
    ['an interval of 0', 'ROTATION_POLICY_INVALID', () => manager.updateRotationPolicy('Token', policy({ every: 0 }))],
    [
      "an interval of '0s'",
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ every: '0s' })),
    ],
    [
      'an interval below 0',
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ every: -1 })),
    ],
    [
      'an interval that is no number',
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ every: Number.NaN })),
    ],
    [
      'an invalid cron expression',
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ cron: 'every day' })),
    ],
    [
      'an empty cron expression',
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ cron: '' })),
    ],
    [
      'an unknown time zone',
      'ROTATION_POLICY_INVALID',
      () => manager.updateRotationPolicy('Token', policy({ cron: '0 3 * * *', timeZone: 'Nowhere' })),
    ],
    ['a schedule of neither kind', 'ROTATION_POLICY_INVALID', () => manager.updateRotationPolicy('Token', policy({}))],
    ['a rotation without a policy', 'ROTATION_POLICY_INVALID', () => manager.rotateSecret('Token')],
    ['a TTL of 0', 'VALUE_INVALID', () => manager.updateSecret('Token', { ttl: 0 })],
  ])('%s: %s', async (_what, code, ask) => {
    await expectFailure(ask, code);
  });

  it('takes a value of exactly 65,536 bytes', async () => {
    // Two of them are the quotes of the JSON.
    await manager.createSecret('Text', 'x'.repeat(65_534));
    await manager.createSecret('Bytes', Buffer.alloc(65_536, 7));
    expect((await manager.getSecretValue<string>('Text')).value).toHaveLength(65_534);
    expect((await manager.getSecretValue<Uint8Array>('Bytes')).value).toHaveLength(65_536);
  });

  it('refuses a rotation by a rotator nobody knows', async () => {
    await manager.updateRotationPolicy('Token', { rotator: 'nobody' });
    await expectFailure(() => manager.rotateSecret('Token'), 'ROTATOR_NOT_FOUND');
  });
});

describe('an application that cannot start', () => {
  const withDefinition = (definition: SecretDefinition<never> | SecretDefinition) =>
    apps.boot(inMemory(), SecretsModule.forFeature([definition]));

  it.each<[what: string, code: string, start: () => unknown]>([
    [
      'a secret that nobody made',
      'SECRET_NOT_FOUND',
      () => apps.boot(inMemory(), SecretsModule.forFeature(['Nowhere'])),
    ],
    [
      'a first value that does not fit its schema',
      'VALUE_INVALID',
      () =>
        withDefinition(
          defineSecret('Token', z.object({ key: z.number() }), { initial: () => ({ key: CANARY }) as never }),
        ),
    ],
    [
      'two definitions of one name in one list',
      'SECRET_DEFINED_TWICE',
      () =>
        apps.boot(
          inMemory(),
          SecretsModule.forFeature([defineSecret('Token', z.string()), defineSecret('Token', z.number())]),
        ),
    ],
    [
      'two definitions of one name in two modules',
      'SECRET_DEFINED_TWICE',
      () =>
        apps.boot(
          inMemory(),
          SecretsModule.forFeature([defineSecret('Token', z.string(), { initial: () => CANARY })]),
          SecretsModule.forFeature([defineSecret('Token', z.string(), { initial: () => CANARY })]),
        ),
    ],
    [
      'a definition with an interval of 0',
      'ROTATION_POLICY_INVALID',
      () =>
        withDefinition(
          defineSecret('Token', z.string(), {
            initial: () => CANARY,
            rotation: { rotator: 'any', schedule: { every: 0 } },
          }),
        ),
    ],
    [
      'a definition with an invalid cron expression',
      'ROTATION_POLICY_INVALID',
      () =>
        withDefinition(
          defineSecret('Token', z.string(), {
            initial: () => CANARY,
            rotation: { rotator: 'any', schedule: { cron: '61 * * * *' } },
          }),
        ),
    ],
    ['neither store nor source', 'MODULE_OPTIONS_INVALID', () => apps.boot(SecretsModule.forRoot({}))],
  ])('%s: %s', async (_what, code, start) => {
    await expectFailure(start, code);
  });
});
