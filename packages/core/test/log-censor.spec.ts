import { Writable } from 'node:stream';
import { inspect } from 'node:util';
import { ConsoleLogger } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { describe, expect, it } from '@jest/globals';
import {
  censoredLogger,
  ephemeralKeys,
  getSecretToken,
  LogCensor,
  memoryStore,
  type NamedRotator,
  pinoCensor,
  type Secret,
  SecretsManager,
  SecretsModule,
  secretLink,
} from '@nestjs-secrets/core';
import { pino } from 'pino';
import { Fingerprints } from '../src/foundation/fingerprints.js';
import { seededRandomness } from './seeded-randomness.js';

const CANARY = `p@ss/wörd "x" 'y'\n +canary?`;

/** Written out by hand here, so that a form which the censor forgets is missed. */
const FORMS: Readonly<Record<string, string>> = {
  plain: CANARY,
  JSON: JSON.stringify({ is: CANARY }),
  'JSON in JSON': JSON.stringify(JSON.stringify({ is: CANARY })),
  inspected: inspect({ is: CANARY }),
  SQL: `'${CANARY.replaceAll("'", "''")}'`,
  URL: `?q=${encodeURIComponent(CANARY)}&r`,
  'URL in lower case': `?q=${encodeURIComponent(CANARY).replaceAll(/%../g, (code) => code.toLowerCase())}&r`,
  form: new URLSearchParams({ q: CANARY }).toString().replaceAll('%27', "'"),
  hex: Buffer.from(CANARY).toString('hex'),
  HEX: Buffer.from(CANARY).toString('hex').toUpperCase(),
  base64: Buffer.from(CANARY).toString('base64'),
  base64url: Buffer.from(CANARY).toString('base64url'),
  'basic authorization': `Basic ${Buffer.from(`u:${CANARY}`).toString('base64')}`,
  'base64 after one byte': Buffer.from(`1${CANARY}23`).toString('base64'),
  'base64 after three bytes': Buffer.from(`123${CANARY}4`).toString('base64url'),
};

const holding = (value: unknown = { username: 'orders', password: CANARY }): LogCensor => {
  const censor = new LogCensor();
  censor.hold(value);
  return censor;
};

describe('the censor of a log', () => {
  it.each(Object.entries(FORMS))('blots out a live value: %s', (_name, form) => {
    const censored = holding().text(`before ${form} after`);
    expect(censored).toMatch(/^before .*\[redacted\].* after$/s);
    expect(censored.length).toBeLessThan(50);
    expect(censored).not.toMatch(/canary|63616e617279/i);
  });

  it('leaves what is no secret, and takes other names for that', () => {
    expect(holding().text('SELECT * FROM orders')).toBe('SELECT * FROM orders');
    const strict = new LogCensor({ shown: [] });
    strict.hold({ username: 'orders' });
    expect(strict.text('SELECT * FROM orders')).toBe('SELECT * FROM [redacted]');
  });

  it('finds the password of a URL, what is in JSON, in bytes and in collections', () => {
    const held = [
      'postgres://u:p%40ssw0rd@host/db',
      '{"private_key":"from-json"}',
      new Map([['k', new Set(['from-a-set'])]]),
      Buffer.from('from-bytes'),
    ];
    expect(holding(held).text('p@ssw0rd from-json from-a-set from-bytes p%40ssw0rd')).toBe(
      Array.from({ length: 5 }, () => '[redacted]').join(' '),
    );
  });

  it('forgets a value when all who held it have let go, and no sooner', () => {
    const censor = new LogCensor();
    const [one, other] = [censor.hold(CANARY), censor.hold({ again: CANARY })];
    one();
    one();
    expect(censor.text(CANARY)).toBe('[redacted]');
    other();
    expect(censor.text(CANARY)).toBe(CANARY);
  });

  it('keeps no copy of what it looks for', () => {
    const censor = holding('a-string-of-its-own');
    expect(inspect(censor, { showHidden: true, depth: 10 })).not.toContain('a-string-of-its-own');
    const fingerprints = new Fingerprints(seededRandomness('one'));
    fingerprints.add('a-string-of-its-own');
    expect(fingerprints.spansIn('x a-string-of-its-own')).toEqual([[2, 21]]);
  });

  it('agrees with a search by hand, whatever strings and texts', () => {
    const random = seededRandomness('seven');
    const letters = (length: number): string => Array.from({ length }, () => 'ab'.charAt(random.below(2))).join('');
    for (let round = 0; round < 300; round += 1) {
      const fingerprints = new Fingerprints(random);
      const strings = [...new Set(Array.from({ length: 6 }, () => letters(6 + random.below(5))))];
      const releases = strings.map((string) => fingerprints.add(string));
      const text = letters(60);
      const wanted = strings.flatMap((string) =>
        Array.from(text, (_, at) => at)
          .filter((at) => text.startsWith(string, at))
          .map((at) => [at, at + string.length]),
      );
      expect(fingerprints.spansIn(text)).toHaveLength(wanted.length);
      expect(fingerprints.spansIn(text)).toEqual(expect.arrayContaining(wanted));
      for (const release of releases) release();
      expect(fingerprints.spansIn(text)).toEqual([]);
    }
  });
});

describe('a thing that is logged', () => {
  it('is passed on as it is when it shows nothing', () => {
    const cyclic: Record<string, unknown> = { n: 1, when: new Date(0), list: [new Map([['a', Buffer.from('bytes')]])] };
    cyclic['self'] = cyclic;
    expect(holding().thing(cyclic)).toBe(cyclic);
    expect(holding().thing(undefined)).toBeUndefined();
  });

  it('is copied without the values otherwise, its shape kept', () => {
    const cyclic: Record<string, unknown> = {
      list: [`x ${CANARY}`, { [CANARY]: 1 }],
      map: new Map([[CANARY, new Set([CANARY])]]),
      bytes: Buffer.from(`x${CANARY}`),
      url: new URL(`http://u:${encodeURIComponent(CANARY)}@host/`),
      words: { toJSON: () => ({ password: CANARY }) },
      ['__proto__']: 1,
    };
    cyclic['self'] = cyclic;
    const copy = holding().thing(cyclic);
    expect(copy['self']).toBe(copy);
    expect(copy['list']).toEqual(['x [redacted]', { '[redacted]': 1 }]);
    expect(copy['words']).toEqual({ password: '[redacted]' });
    expect(inspect(copy, { depth: 9, showHidden: true })).not.toContain('canary');
    expect(inspect(copy)).not.toContain(
      Buffer.from('canary')
        .toString('hex')
        .replaceAll(/..(?!$)/g, '$& '),
    );
    expect(cyclic['list']).toContain(`x ${CANARY}`);
  });

  it('stays an error, with its causes, codes and the errors of an aggregate', () => {
    const error = Object.assign(
      new AggregateError([new Error(`one ${CANARY}`)], `all ${CANARY}`, { cause: new TypeError(CANARY) }),
      { code: '28P01', parameters: [CANARY] },
    );
    const copy = holding().thing(error);
    expect(copy).toBeInstanceOf(Error);
    expect(copy).toMatchObject({ name: 'AggregateError', message: 'all [redacted]', code: '28P01' });
    expect(copy.parameters).toEqual(['[redacted]']);
    expect(copy.errors[0]).toMatchObject({ message: 'one [redacted]' });
    expect(copy.cause).toMatchObject({ name: 'TypeError', message: '[redacted]' });
    expect(inspect(copy, { depth: 9, showHidden: true })).not.toContain('canary');
  });

  it('is cut where it is too large or too deep to look at', () => {
    const wide = Array.from({ length: 6_000 }, (_, index) => ({ index, is: index === 5_999 ? CANARY : 'x' }));
    expect(JSON.stringify(holding().thing(wide))).not.toContain('canary');
    let deep: unknown = CANARY;
    for (let level = 0; level < 20; level += 1) deep = { deep };
    expect(JSON.stringify(holding().thing(deep))).toContain('[left out]');
    const throwing = {
      get it(): string {
        throw new Error(CANARY);
      },
    };
    expect(holding().thing(throwing)).toBe(throwing);
  });
});

const sinkOf = (lines: string[]): Writable =>
  new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.push(chunk.toString());
      done();
    },
  });

describe('the loggers', () => {
  it('of pino show no live value, in the message, objects, errors and bindings', () => {
    const lines: string[] = [];
    const logger = pino({ level: 'trace', ...pinoCensor(holding()) }, sinkOf(lines));
    logger.info({ password: CANARY, deep: { url: encodeURIComponent(CANARY) } }, 'with %s', CANARY);
    logger.child({ login: CANARY }).error(new Error('failed', { cause: new Error(CANARY) }));
    logger.info(JSON.stringify(JSON.stringify(CANARY)));
    logger.info('harmless');
    const parsed = lines.map((line): Record<string, unknown> => JSON.parse(line));
    expect(lines.join('')).not.toMatch(/canary/);
    expect(parsed[0]).toMatchObject({ msg: 'with [redacted]', password: '[redacted]', deep: { url: '[redacted]' } });
    expect(parsed[1]).toMatchObject({ login: '[redacted]', err: { type: 'Error' } });
    expect(parsed[2]).toMatchObject({ msg: expect.stringContaining('[redacted]') });
    expect(parsed[3]).toMatchObject({ msg: 'harmless' });
  });

  it.each([true, false])('of Nest show no live value (json: %s)', (json) => {
    const lines: string[] = [];
    class Collecting extends ConsoleLogger {
      protected override printMessages(messages: unknown[], context?: string, level?: 'log'): void {
        lines.push(inspect([messages, context, level], { depth: 9 }));
      }
    }
    const logger = censoredLogger(new Collecting({ json, colors: false }), holding());
    logger.log({ password: CANARY }, 'Context');
    logger.warn(`warned of ${CANARY}`, CANARY);
    logger.error(new Error(CANARY), 'Context');
    logger.debug?.({ deep: [{ CANARY }] });
    logger.verbose?.([CANARY]);
    logger.fatal?.(Buffer.from(CANARY).toString('base64'));
    logger.setLogLevels?.(['error']);
    logger.log('not any more');
    expect(lines).toHaveLength(6);
    expect(lines.join('\n')).not.toMatch(/canary|Y2FuYXJ5/);
    expect(lines.join('\n')).not.toContain('not any more');
    for (const line of lines) expect(line).toContain('[redacted]');
  });
});

describe('the censor of an application', () => {
  it('knows the values of handles: current, the one before, and those that are tried; none when it is closed', async () => {
    const censor = new LogCensor();
    const seen = (): string[] =>
      ['first-value', 'second-value', 'third-value'].filter((value) => censor.text(value) !== value);
    const store = memoryStore();
    const keys = ephemeralKeys();
    const first = await Test.createTestingModule({ imports: [SecretsModule.forRoot({ store, keys })] }).compile();
    await first.get(SecretsManager).createSecret('Key', { key: 'first-value' });
    const module = await Test.createTestingModule({
      imports: [SecretsModule.forRoot({ store, keys, censor }), SecretsModule.forFeature(['Key'])],
    }).compile();
    await module.init();
    expect(module.get(LogCensor)).toBe(censor);
    const key = module.get<Secret<{ key: string }>>(getSecretToken('Key'));
    expect(seen()).toEqual(['first-value']);

    const manager = module.get(SecretsManager);
    await manager.putSecretValue('Key', { key: 'second-value' });
    await key.refresh();
    expect(seen()).toEqual(['first-value', 'second-value']);

    await manager.putSecretValue('Key', { key: 'third-value' });
    await key.refresh();
    expect(seen()).toEqual(['second-value', 'third-value']);

    await secretLink(key).candidates();
    expect(seen()).toEqual(['second-value', 'third-value']);

    await module.close();
    await first.close();
    expect(seen()).toEqual([]);
  });

  it('knows what a rotator is at work with, and the passwords it draws, until the step is over', async () => {
    const censor = new LogCensor();
    const logged: string[] = [];
    const say = (what: string): number => logged.push(censor.text(what));
    const made: string[] = [];
    const rotator: NamedRotator = {
      name: 'talkative',
      create: (context) => {
        const password = context.randomPassword();
        made.push(password);
        say(`create ${password}`);
        return { password };
      },
      apply: async ({ pending }) => {
        say(`apply ${JSON.stringify(pending.value)}`);
      },
      verify: ({ pending }) => void say(`verify ${JSON.stringify(pending.value)}`),
      retire: ({ retiring }) => void say(`retire ${JSON.stringify(retiring.value)}`),
    };
    const module = await Test.createTestingModule({
      imports: [SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotators: [rotator], censor })],
    }).compile();
    await module.init();
    const manager = module.get(SecretsManager);
    await manager.createSecret('Key', { password: 'the-first-password' }, { rotation: { rotator: 'talkative' } });
    await manager.rotateSecret('Key', { until: 'retired' });
    expect(logged).toEqual([
      'create [redacted]',
      'apply {"password":"[redacted]"}',
      'verify {"password":"[redacted]"}',
      'retire {"password":"[redacted]"}',
    ]);
    expect(made.map((password) => censor.text(password))).toEqual(made);
    await module.close();
  });
});
