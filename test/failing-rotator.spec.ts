import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  memoryStore,
  type PendingContext,
  type RetireContext,
  type Secret,
  type SecretRotator,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { z } from 'zod';
import { BootedApps } from './support/booted-apps.js';
import { eventually } from './support/eventually.js';
import { CANARY, expectFailure } from './support/expect-failure.js';

const apps = new BootedApps();
afterEach(() => apps.closeAll());

describe('a rotator that throws', () => {
  type Step = 'create' | 'apply' | 'verify' | 'retire';

  /** A target that knows the passwords it was taught and not told to forget. */
  class CarelessRotator implements SecretRotator<string> {
    readonly name = 'careless';
    readonly known = new Set([CANARY]);
    failing: Step | undefined;
    #made = 0;

    create(): string {
      this.#failAt('create');
      this.#made += 1;
      return `${CANARY}-${this.#made}`;
    }
    apply({ pending }: PendingContext<string>): void {
      this.known.add(pending.value);
      this.#failAt('apply');
    }
    verify(): void {
      this.#failAt('verify');
    }
    retire({ retiring }: RetireContext<string>): void {
      this.#failAt('retire');
      this.known.delete(retiring.value);
    }
    undo({ pending }: PendingContext<string>): void {
      this.known.delete(pending.value);
    }

    #failAt(step: Step): void {
      if (this.failing === step) throw new Error(`${step}: no luck with ${[...this.known].join(', ')}`);
    }
  }

  let rotator: CarelessRotator;
  let manager: SecretsManager;
  let handle: Secret<string>;

  beforeEach(async () => {
    rotator = new CarelessRotator();
    const definition = defineSecret('Token', z.string(), {
      initial: () => CANARY,
      rotation: { rotator: rotator.name },
    });
    const root = SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotators: [rotator] });
    const app = await apps.boot(root, SecretsModule.forFeature([definition]));
    manager = app.get(SecretsManager);
    handle = app.get(getSecretToken('Token'), { strict: false });
  });

  it.each<Step>(['create', 'apply', 'verify'])(
    'I1 at %s: the secret stays what it was, and the next rotation works',
    async (step) => {
      rotator.failing = step;
      const error = await expectFailure(() => manager.rotateSecret('Token'), 'ROTATION_FAILED');
      expect(error).toMatchObject({ step, undone: true, secretName: 'Token' });
      expect([handle.versionId, handle.value]).toEqual(['v1', CANARY]);
      expect([...rotator.known]).toEqual([CANARY]);
      expect((await manager.describeSecret('Token')).rotation).toMatchObject({
        failures: 1,
        step: undefined,
        unretired: [],
      });

      rotator.failing = undefined;
      await manager.rotateSecret('Token', { until: 'retired' });
      await handle.refresh();
      expect([...rotator.known]).toEqual([handle.value]);
      expect(handle.value).not.toBe(CANARY);
    },
  );

  it('I6 at retire: it is tried again until the old value is dead', async () => {
    rotator.failing = 'retire';
    const failures: unknown[] = [];
    manager.rotationEvents$.subscribe((event) => event.type === 'failed' && failures.push(event));
    const { versionId } = await manager.rotateSecret('Token');
    await eventually('the first try failed', () => failures.length > 0);
    expect(failures[0]).toMatchObject({ step: 'retire', secretName: 'Token' });
    expect(JSON.stringify(failures)).not.toContain(CANARY);
    expect((await manager.describeSecret('Token')).rotation?.unretired).toEqual(['v1']);

    rotator.failing = undefined;
    await eventually(
      'the old version is retired',
      async () => (await manager.describeSecret('Token')).rotation?.unretired.length === 0,
    );
    expect(rotator.known.has(CANARY)).toBe(false);
    await handle.refresh();
    expect(handle.versionId).toBe(versionId);
  });
});
