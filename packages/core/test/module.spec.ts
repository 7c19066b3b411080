import { afterEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { ScheduleModule, SchedulerRegistry } from '@nestjs/schedule';
import { firstValueFrom, filter } from 'rxjs';
import { inspect } from 'node:util';
import * as v from 'valibot';
import { z } from 'zod';
import {
  InjectSecret,
  OnSecretChange,
  Rotator,
  SecretsHealthIndicator,
  SecretsManager,
  SecretsModule,
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  memoryStore,
  type CreateContext,
  type Secret,
  type SecretChange,
  type SecretRotator,
} from '@nestjs-secrets/core';

const smtpLogin = defineSecret('SmtpLogin', z.object({ user: z.string(), pass: z.string() }), {
  initial: () => ({ user: 'mailer', pass: 'first-password' }),
});
type SmtpLogin = { user: string; pass: string };

@Injectable()
class Mailer {
  readonly heard: string[] = [];
  constructor(@InjectSecret('SmtpLogin') readonly login: Secret<SmtpLogin>) {}

  @OnSecretChange('SmtpLogin')
  async reconnect(change: SecretChange<SmtpLogin>): Promise<void> {
    this.heard.push(`${change.previousVersionId}->${change.versionId}:${change.value.pass}`);
  }
}

@Rotator('counter')
@Injectable()
class CounterRotator implements SecretRotator<SmtpLogin> {
  create(context: CreateContext<SmtpLogin>): SmtpLogin {
    return { user: 'mailer', pass: `${context.current?.value.pass ?? 'none'}+` };
  }
  apply(): void {}
  verify(): void {}
  retire(): void {}
}

@Module({ imports: [SecretsModule.forFeature(['SmtpLogin'])], providers: [Mailer, CounterRotator] })
class MailModule {}

let app: TestingModule | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

async function start(): Promise<TestingModule> {
  app = await Test.createTestingModule({
    imports: [
      MailModule,
      SecretsModule.forFeature([smtpLogin]),
      SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
    ],
  }).compile();
  await app.init();
  return app;
}

describe('SecretsModule', () => {
  it('injects a live handle whose first value comes from the definition, whichever module is made first', async () => {
    const mailer = (await start()).get(Mailer);
    expect(mailer.login.value).toEqual({ user: 'mailer', pass: 'first-password' });
    expect(mailer.login.versionId).toBe('v1');
  });

  it('gives every module the same handle', async () => {
    const module = await start();
    expect(module.get(getSecretToken(smtpLogin), { strict: false })).toBe(module.get(Mailer).login);
  });

  it('moves the handle and tells listeners when a value is put or rotated', async () => {
    const module = await start();
    const [mailer, manager] = [module.get(Mailer), module.get(SecretsManager)];
    await manager.putSecretValue('SmtpLogin', { user: 'mailer', pass: 'second-password' });
    await mailer.login.refresh();
    expect(mailer.login.value.pass).toBe('second-password');
    await manager.updateRotationPolicy('SmtpLogin', { rotator: 'counter' });
    await manager.rotateSecret('SmtpLogin', { until: 'retired' });
    await mailer.login.refresh();
    expect(mailer.login.value.pass).toBe('second-password+');
    expect(mailer.heard).toEqual(['v1->v2:second-password', 'v2->v3:second-password+']);
  });

  it('prints, serialises and inspects a handle without its value', async () => {
    const { login } = (await start()).get(Mailer);
    const shown = [
      String(login),
      JSON.stringify({ login }),
      inspect(login, { depth: 9, showHidden: true }),
      inspect({ login }),
    ];
    expect(shown.join()).not.toContain('first-password');
    expect(String(login)).toBe('Secret(SmtpLogin@v1)');
    expect(inspect(login)).toBe('Secret(SmtpLogin@v1)');
    expect(JSON.stringify(login)).toBe('"Secret(SmtpLogin@v1)"');
  });

  it('takes a valibot schema as well and refuses to start on a value that does not fit, without showing it', async () => {
    const token = defineSecret('Token', v.object({ key: v.number() }), {
      initial: () => ({ key: 'canary-of-a-wrong-type' as unknown as number }),
    });
    const starting = Test.createTestingModule({
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature([token]),
      ],
    }).compile();
    const error = await starting.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      code: 'VALUE_INVALID',
      message: 'The value of Token does not fit its schema at: key.',
    });
    expect(inspect(error)).not.toContain('canary');
  });

  it('refuses two definitions of one name', async () => {
    const starting = Test.createTestingModule({
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature([smtpLogin]),
        SecretsModule.forFeature([defineSecret('SmtpLogin', v.string())]),
      ],
    }).compile();
    await expect(starting).rejects.toMatchObject({ code: 'SECRET_DEFINED_TWICE' });
  });

  it('says which secret is missing', async () => {
    const starting = Test.createTestingModule({
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature(['Nowhere']),
      ],
    }).compile();
    await expect(starting).rejects.toMatchObject({ code: 'SECRET_NOT_FOUND', secretName: 'Nowhere' });
  });

  it('tells a slow listener of the newest change only, keeps what it comes from alive, and logs its failure without a value', async () => {
    const logged: unknown[] = [];
    let release: () => void = () => undefined;
    const told: string[] = [];
    @Injectable()
    class Slow {
      constructor(@InjectSecret('SmtpLogin') readonly login: Secret<SmtpLogin>) {}
      @OnSecretChange(smtpLogin)
      async changed(change: SecretChange<SmtpLogin>): Promise<void> {
        told.push(change.versionId);
        await new Promise<void>((resolve) => (release = resolve));
        throw new Error(`cannot use ${change.value.pass}`);
      }
    }
    app = await Test.createTestingModule({
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature([smtpLogin]),
      ],
      providers: [Slow, CounterRotator],
    })
      .setLogger({ log() {}, warn() {}, error: (...line: unknown[]) => logged.push(line) })
      .compile();
    await app.init();
    const [manager, secret] = [app.get(SecretsManager), app.get(Slow).login];
    await manager.updateRotationPolicy('SmtpLogin', { rotator: 'counter' });
    const held = firstValueFrom(
      manager.rotationEvents$.pipe(
        filter(
          (event) => event.type === 'settling' && event.versionId === 'v1' && event.holders.join() === 'Slow.changed',
        ),
      ),
    );
    for (let rotation = 0; rotation < 3; rotation += 1) {
      await manager.rotateSecret('SmtpLogin');
      await secret.refresh();
    }
    await held;
    expect(told).toEqual(['v2']);
    const retired = firstValueFrom(
      manager.rotationEvents$.pipe(filter((event) => event.type === 'retired' && event.versionId === 'v1')),
    );
    release();
    await retired;
    expect(told).toEqual(['v2', 'v4']);
    expect((await manager.describeSecret('SmtpLogin')).rotation?.unretired).toContain('v2');
    release();
    expect(inspect(logged)).toContain('cannot use [redacted]');
    expect(inspect(logged)).not.toContain('first-password');
  });

  it('sets its timers in the registry of @nestjs/schedule where the application has one', async () => {
    const counted = defineSecret('Counted', z.object({ user: z.string(), pass: z.string() }), {
      initial: 'rotator',
      rotation: { rotator: 'counter', schedule: { every: 500 } },
    });
    const rotator = Object.assign(new CounterRotator(), { name: 'counter' });
    app = await Test.createTestingModule({
      imports: [
        ScheduleModule.forRoot(),
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotators: [rotator] }),
        SecretsModule.forFeature([counted]),
      ],
    }).compile();
    await app.init();
    const promoted = firstValueFrom(
      app.get(SecretsManager).rotationEvents$.pipe(filter(({ type }) => type === 'promoted')),
    );
    const registry = app.get(SchedulerRegistry);
    for (let looks = 0; !registry.doesExist('timeout', 'nestjs-secrets:rotations') && looks < 1000; looks += 1)
      await new Promise(setImmediate);
    expect(registry.getTimeouts()).toEqual(['nestjs-secrets:rotations']);
    expect(await promoted).toMatchObject({ secretName: 'Counted', previousVersionId: 'v1', versionId: 'v2' });
    await app.close();
    app = undefined;
    expect(registry.getTimeouts()).toEqual([]);
  });

  it('makes a first value and a rotation policy from what it injects', async () => {
    const injected = defineSecret('Injected', z.string(), {
      initial: { inject: ['SEED'], useFactory: (seed: string) => `${seed}-value` },
      rotation: { inject: ['EVERY'], useFactory: (every: number) => ({ rotator: 'counter', schedule: { every } }) },
    });
    const config = {
      module: class Config {},
      providers: [
        { provide: 'SEED', useValue: 'seed' },
        { provide: 'EVERY', useValue: 3_600_000 },
      ],
      exports: ['SEED', 'EVERY'],
    };
    app = await Test.createTestingModule({
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
        SecretsModule.forFeature([injected], { imports: [config] }),
      ],
    }).compile();
    const manager = app.get(SecretsManager);
    expect((await manager.getSecretValue('Injected')).value).toBe('seed-value');
    expect((await manager.describeSecret('Injected')).rotation?.policy).toEqual({
      rotator: 'counter',
      schedule: { every: 3_600_000 },
    });
  });

  it('tells health in the shape that Terminus takes', async () => {
    expect((await start()).get(SecretsHealthIndicator).check()).toEqual({
      secrets: {
        status: 'up',
        degraded: false,
        secrets: { SmtpLogin: { versionId: 'v1', status: 'up', reason: undefined, rolledBack: false } },
        rotations: {},
        audit: [],
        keys: { state: 'available' },
      },
    });
  });

  it('completes the handles and closes the store on app.close()', async () => {
    const store = memoryStore();
    app = await Test.createTestingModule({
      imports: [
        SecretsModule.forRootAsync({ useFactory: () => ({ store, keys: ephemeralKeys() }) }),
        SecretsModule.forFeature([smtpLogin]),
      ],
    }).compile();
    await app.init();
    const secret = app.get<Secret<SmtpLogin>>(getSecretToken('SmtpLogin'), { strict: false });
    let completed = false;
    secret.changes$.subscribe({ complete: () => (completed = true) });
    await app.close();
    app = undefined;
    expect(completed).toBe(true);
    await expect(store.revision()).rejects.toMatchObject({ code: 'STORE_CLOSED' });
  });
});
