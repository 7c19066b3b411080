import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { DynamicModule, INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  isSecretsError,
  localKeyFile,
  memoryStore,
  type PendingContext,
  type RetireContext,
  type RotationPolicy,
  type Secret,
  SecretsManager,
  SecretsModule,
  type SecretDefinition,
  type SecretRotator,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { z } from 'zod';
import { eventually } from './support/eventually.js';

const CANARY = 'canary-of-bad-input';

const apps: INestApplicationContext[] = [];
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bad-input-'));
});
afterEach(async () => {
  for (const app of apps.splice(0)) await app.close();
  await rm(folder, { recursive: true, force: true });
});

async function boot(...imports: DynamicModule[]): Promise<INestApplicationContext> {
  const app = await NestFactory.createApplicationContext(
    { module: class Root {}, imports },
    { logger: false, abortOnError: false },
  );
  apps.push(app);
  return app;
}

const inMemory = (): DynamicModule => SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() });

/** The one error an attempt fails with: of this code, with words to say, and without a value in any form it may be shown in. */
async function expectFailure(attempt: () => unknown, code: string | readonly string[]): Promise<unknown> {
  let error: unknown;
  try {
    await attempt();
  } catch (thrown) {
    error = thrown;
  }
  if (!isSecretsError(error)) throw new Error(`expected ${String(code)}, got ${inspect(error)}`);
  expect([code].flat()).toContain(error.code);
  expect(error.message.length).toBeGreaterThan(20);
  const shown = [
    inspect(error, { depth: 10, showHidden: true }),
    JSON.stringify(error),
    error.stack,
    inspect(error.cause, { showHidden: true }),
  ];
  expect(shown.join('\n')).not.toContain(CANARY);
  return error;
}

describe('a manager that is asked for what cannot be', () => {
  const token = defineSecret('Token', z.object({ key: z.string() }), { initial: () => ({ key: CANARY }) });
  let manager: SecretsManager;

  beforeEach(async () => {
    manager = (await boot(inMemory(), SecretsModule.forFeature([token]))).get(SecretsManager);
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
    boot(inMemory(), SecretsModule.forFeature([definition]));

  it.each<[what: string, code: string, start: () => unknown]>([
    ['a secret that nobody made', 'SECRET_NOT_FOUND', () => boot(inMemory(), SecretsModule.forFeature(['Nowhere']))],
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
        boot(
          inMemory(),
          SecretsModule.forFeature([defineSecret('Token', z.string()), defineSecret('Token', z.number())]),
        ),
    ],
    [
      'two definitions of one name in two modules',
      'SECRET_DEFINED_TWICE',
      () =>
        boot(
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
    ['neither store nor source', 'MODULE_OPTIONS_INVALID', () => boot(SecretsModule.forRoot({}))],
  ])('%s: %s', async (_what, code, start) => {
    await expectFailure(start, code);
  });
});

describe('a store whose key file is not as it should be', () => {
  const keyFile = (): string => path.join(folder, 'keys', 'local.key');
  const start = (keys = localKeyFile({ path: keyFile() })): Promise<INestApplicationContext> =>
    boot(SecretsModule.forRoot({ store: sqliteStore({ path: path.join(folder, 'secrets.db') }), keys }));

  beforeEach(async () => {
    const app = await start();
    await app.get(SecretsManager).createSecret('Token', CANARY);
    await app.close();
  });
  afterEach(async () => {
    expect((await (await start()).get(SecretsManager).getSecretValue('Token')).value).toBe(CANARY);
  });

  it('missing: KEY_FILE_MISSING', async () => {
    const gone = path.join(folder, 'gone.key');
    await expectFailure(() => start(localKeyFile({ path: gone, create: 'never' })), 'KEY_FILE_MISSING');
  });

  it('readable by others: KEY_FILE_EXPOSED', async () => {
    await chmod(keyFile(), 0o644);
    await expectFailure(() => start(), 'KEY_FILE_EXPOSED');
    await chmod(keyFile(), 0o600);
  });

  it('no key file at all: KEY_FILE_INVALID', async () => {
    const other = path.join(folder, 'other.key');
    await writeFile(other, CANARY, { mode: 0o600 });
    await expectFailure(() => start(localKeyFile({ path: other })), 'KEY_FILE_INVALID');
  });

  it('of another store: KEY_MISMATCH', async () => {
    await expectFailure(
      () => start(localKeyFile({ path: path.join(folder, 'other.key'), create: 'if-missing' })),
      'KEY_MISMATCH',
    );
  });
});

describe('a store with one corrupt record', () => {
  const open = async (store: StoreDriver, keys = ephemeralKeys()): Promise<SecretsManager> =>
    (await boot(SecretsModule.forRoot({ store, keys }))).get(SecretsManager);

  /** Turns one bit of an entry round, at a place given as a part of its length. */
  async function flip(store: StoreDriver, key: string, at: number): Promise<void> {
    const entry = await store.get(key);
    if (entry === undefined) throw new Error(`no entry ${key}`);
    const value = Uint8Array.from(entry.value);
    const index = Math.min(value.length - 1, Math.floor(value.length * at));
    value[index] = (value[index] ?? 0) ^ 1;
    await store.commit({ conditions: [], writes: [{ key, value }] });
  }

  let store: StoreDriver;
  let manager: SecretsManager;

  beforeEach(async () => {
    store = memoryStore();
    manager = await open(store);
    await manager.createSecret('Sound', 'sound');
    await manager.createSecret('Token', CANARY);
    await manager.createSecret('Zuletzt', 'sound too');
  });
  afterEach(async () => {
    expect((await manager.getSecretValue('Sound')).value).toBe('sound');
    await manager.putSecretValue('Sound', 'sounder');
    expect((await manager.getSecretValue('Zuletzt')).value).toBe('sound too');
  });

  it.each([0, 0.1, 0.25, 0.5, 0.75, 0.99])(
    'in its envelope, at %d of its length: only this secret fails',
    async (at) => {
      await flip(store, 'value/Token:v1', at);
      await expectFailure(() => manager.getSecretValue('Token'), ['RECORD_CORRUPT', 'KEY_MISMATCH']);
      await manager.putSecretValue('Token', 'a new value');
      expect((await manager.getSecretValue('Token')).value).toBe('a new value');
    },
  );

  it('in its head: only this secret fails', async () => {
    await flip(store, 'secret/Token', 0);
    await expectFailure(() => manager.getSecretValue('Token'), 'RECORD_CORRUPT');
    await expectFailure(() => manager.putSecretValue('Token', CANARY), 'RECORD_CORRUPT');
  });

  it('does not keep the list of the others away', async () => {
    await flip(store, 'secret/Token', 0);
    const { items } = await manager.listSecrets();
    expect(items.map(({ name }) => name)).toEqual(expect.arrayContaining(['Sound', 'Zuletzt']));
  });

  it('taken from another secret: refused, since it is bound to its place', async () => {
    const foreign = await store.get('value/Sound:v1');
    await store.commit({ conditions: [], writes: [{ key: 'value/Token:v1', value: foreign?.value ?? null }] });
    await expectFailure(() => manager.getSecretValue('Token'), ['RECORD_CORRUPT', 'KEY_MISMATCH']);
  });

  it('in its rotation journal: only its rotation fails', async () => {
    await store.commit({ conditions: [], writes: [{ key: 'rotation/Token', value: Buffer.from('{') }] });
    await manager.updateRotationPolicy('Sound', { rotator: 'any' });
    await expectFailure(() => manager.rotateSecret('Token'), 'RECORD_CORRUPT');
    expect((await manager.getSecretValue('Token')).value).toBe(CANARY);
  });
});

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
    const app = await boot(root, SecretsModule.forFeature([definition]));
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
