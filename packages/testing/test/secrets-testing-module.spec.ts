import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  InjectSecret,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { SecretsTesting, SecretsTestingModule } from '@nestjs-secrets/testing';

@Injectable()
class Mailer {
  readonly told: string[] = [];
  constructor(@InjectSecret('SmtpLogin') readonly login: Secret<{ pass: string }>) {}

  @OnSecretChange('SmtpLogin')
  changed(change: SecretChange<{ pass: string }>): void {
    this.told.push(change.value.pass);
  }
}

@Module({ imports: [SecretsModule.forFeature(['SmtpLogin'])], providers: [Mailer] })
class MailModule {}

let app: TestingModule | undefined;
afterEach(() => app?.close());

async function start(): Promise<TestingModule> {
  app = await Test.createTestingModule({
    imports: [MailModule, SecretsTestingModule.forRoot({ SmtpLogin: { pass: 'one' } })],
  }).compile();
  return app.init();
}

describe('SecretsTestingModule', () => {
  it('injects fixed values and rotates by hand', async () => {
    const module = await start();
    const mailer = module.get(Mailer);
    expect(mailer.login.value.pass).toBe('one');
    await module.get(SecretsTesting).rotate('SmtpLogin', { pass: 'two' });
    expect(mailer.login.value.pass).toBe('two');
    expect(mailer.login.versionId).toBe('v2');
    expect(mailer.told).toEqual(['two']);
  });

  it('takes a value for a secret nobody has a handle on', async () => {
    await expect((await start()).get(SecretsTesting).rotate('Unused', 1)).resolves.toBeUndefined();
  });

  it('says that there is no manager only when one is used', async () => {
    const manager = (await start()).get(SecretsManager);
    expect(() => manager.getRandomPassword()).toThrow(expect.objectContaining({ code: 'MANAGER_UNAVAILABLE' }));
  });
});
