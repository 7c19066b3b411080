// What a team writes against the published packages. Compiled against the declarations in the tarballs, as an ES module and as CommonJS.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  type CreateContext,
  InjectSecret,
  OnSecretChange,
  Rotator,
  type Secret,
  type SecretChange,
  type SecretRotator,
  SecretsManager,
  SecretsModule,
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  isSecretsError,
  memoryStore,
} from '@nestjs-secrets/core';

interface Login {
  readonly user: string;
  readonly pass: string;
}

const login = defineSecret<Login>('Login', undefined, { initial: () => ({ user: 'app', pass: 'first' }) });

@Injectable()
class Mailer {
  readonly heard: string[] = [];

  constructor(@InjectSecret('Login') readonly login: Secret<Login>) {}

  @OnSecretChange('Login')
  changed(change: SecretChange<Login>): void {
    this.heard.push(change.value.pass);
  }
}

@Rotator('smoke')
@Injectable()
class SmokeRotator implements SecretRotator<Login> {
  readonly steps: string[] = [];

  create({ current }: CreateContext<Login>): Login {
    this.steps.push('create');
    return { user: 'app', pass: `${current?.value.pass}, then rotated` };
  }

  apply(): void {
    this.steps.push('apply');
  }

  verify(): void {
    this.steps.push('verify');
  }

  retire(): void {
    this.steps.push('retire');
  }
}

@Module({ imports: [SecretsModule.forFeature([login])], providers: [Mailer, SmokeRotator] })
class MailModule {}

@Module({ imports: [SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }), MailModule] })
class AppModule {}

/** Boots, rotates and shuts down; throws when anything is not as it should be. */
export async function runApplication(): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false });
  try {
    const mailer = app.get(Mailer);
    const manager = app.get(SecretsManager);
    assert.equal(mailer.login.value.pass, 'first');
    assert.equal(app.get(getSecretToken('Login'), { strict: false }), mailer.login);

    await manager.updateRotationPolicy('Login', { rotator: 'smoke' });
    await manager.rotateSecret('Login', { until: 'retired' });
    await mailer.login.refresh();
    assert.equal(mailer.login.value.pass, 'first, then rotated');
    assert.deepEqual(mailer.heard, ['first, then rotated']);
    assert.deepEqual(app.get(SmokeRotator).steps, ['create', 'apply', 'verify', 'retire']);

    await assert.rejects(manager.getSecretValue('Nowhere'), (error) => isSecretsError(error, 'SECRET_NOT_FOUND'));
  } finally {
    await app.close();
  }
}
