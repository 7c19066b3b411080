import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { redactError, redactText, secretStrings } from '@nestjs-secrets/core';
import { decodeValue } from '../src/versions/secret-value.js';

const CANARY = 'p@ss/wörd "x" +canary?';
const forms = (value: string): string[] => [
  value,
  encodeURIComponent(value),
  JSON.stringify(value).slice(1, -1),
  Buffer.from(value).toString('base64'),
  Buffer.from(value).toString('base64url'),
  Buffer.from(value).toString('hex'),
];

/** Everything of an error anybody could print. */
const shown = (error: Error): string =>
  [
    inspect(error, { depth: 20, showHidden: true }),
    JSON.stringify(error, Object.getOwnPropertyNames(error)),
    String(error),
    error.stack ?? '',
  ].join('\n');

describe('redactText', () => {
  it.each(forms(CANARY))('blots out %s', (form) => {
    expect(redactText(`before ${form} after`, secretStrings(CANARY))).toMatch(/^before \[redacted\]=* after$/);
  });

  it('blots out each occurrence, and overlapping strings as a whole', () => {
    expect(redactText('abcdef-abcdefgh', ['abcdef', 'cdefgh', 'abcdef'])).toBe('[redacted]-[redacted]');
    expect(redactText('aaaaaaaaa!', ['aaaaaa'])).toBe('[redacted]!');
    expect(redactText('secret1secret2', ['secret1', 'secret2'])).toBe('[redacted][redacted]');
  });

  it('leaves no tail of a long string behind when a shorter one begins it', () => {
    expect(redactText('key=hunter2hunter3.', ['hunter2', 'hunter2hunter3'])).toBe('key=[redacted].');
  });

  it('leaves text without a secret as it is', () => {
    expect(redactText('nothing here', ['', 'absent'])).toBe('nothing here');
    expect(redactText('nothing here', [])).toBe('nothing here');
  });
});

describe('secretStrings', () => {
  it('finds the strings and bytes anywhere in a value, once', () => {
    const cyclic: Record<string, unknown> = { list: ['first-secret', { deep: Buffer.from('second-secret') }] };
    cyclic['self'] = cyclic;
    const strings = secretStrings(cyclic);
    for (const secret of ['first-secret', 'second-secret', Buffer.from('second-secret').toString('hex')]) {
      expect(strings).toContain(secret);
    }
  });

  it('leaves out what is too short, and takes half a surrogate pair', () => {
    expect(secretStrings(['short', Buffer.from('short'), 5, null, undefined])).toEqual(new Set());
    expect(secretStrings('canary\ud800')).toContain('canary\ud800');
  });
});

describe('redactError', () => {
  it('keeps name, message, stack and code, and takes the values out of each', () => {
    const error = Object.assign(new TypeError(`cannot log in with ${CANARY}`), { code: '28P01' });
    const clean = redactError(error, [{ password: CANARY }]);
    expect(clean).not.toBe(error);
    expect(Object.getPrototypeOf(clean)).toBe(Error.prototype);
    expect(clean).toMatchObject({ name: 'TypeError', message: 'cannot log in with [redacted]', code: '28P01' });
    expect(clean.stack).toContain('redaction.spec');
    expect(clean.stack).toMatch(/^TypeError: cannot log in with \[redacted\]/);
    expect(error.message).toContain(CANARY);
  });

  it('drops whatever else hangs on it, on its causes and on the errors of an aggregate', () => {
    const driver = (message: string): Error =>
      Object.assign(new Error(`${message} ${CANARY}`), {
        query: `ALTER ROLE x PASSWORD '${CANARY}'`,
        parameters: [CANARY],
        detail: 'other-detail',
        driverError: new Error(CANARY),
        errno: 1,
      });
    const cause = driver('inner');
    const aggregate = new AggregateError([driver('one'), driver('two')], `all failed ${CANARY}`, { cause });
    const clean = redactError(
      Object.assign(new Error('outer', { cause: aggregate }), { config: { password: CANARY } }),
      [CANARY],
    );
    const all = shown(clean);
    for (const form of forms(CANARY)) expect(all).not.toContain(form);
    for (const gone of ['parameters', 'query', 'other-detail', 'driverError', 'errno', 'config'])
      expect(all).not.toContain(gone);
    for (const kept of ['outer', 'all failed [redacted]', 'inner [redacted]', 'one [redacted]', 'two [redacted]']) {
      expect(all).toContain(kept);
    }
    expect(clean.cause).toBeInstanceOf(Error);
    expect(clean.cause).toHaveProperty('errors.length', 2);
  });

  it('keeps five causes, and stops at a circle', () => {
    let deep = new Error('level 9');
    for (let level = 8; level >= 0; level -= 1) deep = new Error(`level ${level}`, { cause: deep });
    const levels: string[] = [];
    for (let at: unknown = redactError(deep, []); at instanceof Error; at = at.cause) levels.push(at.message);
    expect(levels).toEqual(['level 0', 'level 1', 'level 2', 'level 3', 'level 4', 'level 5']);

    const one = new Error('one');
    one.cause = new AggregateError([one], 'two', { cause: one });
    const clean = redactError(one, []);
    expect(clean.cause).toMatchObject({ message: 'two', errors: [] });
    expect((clean.cause as Error).cause).toBeUndefined();
  });

  it('redacts a code that is a string, keeps one that is a number, and no other', () => {
    expect(redactError(Object.assign(new Error('x'), { code: `E ${CANARY}` }), [CANARY])).toMatchObject({
      code: 'E [redacted]',
    });
    expect(redactError(Object.assign(new Error('x'), { code: 1045 }), [CANARY])).toMatchObject({ code: 1045 });
    expect(redactError(Object.assign(new Error('x'), { code: { CANARY } }), [CANARY])).not.toHaveProperty('code');
  });

  it('takes whatever was thrown', () => {
    expect(redactError(`thrown ${CANARY}`, [CANARY]).message).toBe('thrown [redacted]');
    expect(redactError(undefined, [CANARY]).message).toBe('undefined');
    expect(redactError(null, []).message).toBe('null');
    expect(redactError(Symbol('s'), []).message).toBe('Symbol(s)');
    const plain = redactError({ password: CANARY }, []);
    expect(plain.message).toBe('Something that is not an error was thrown.');
    expect(shown(plain)).not.toContain('canary');
    const hostile = {
      get message(): string {
        throw new Error(CANARY);
      },
    };
    expect(shown(redactError(hostile, []))).not.toContain('canary');
  });

  it('does not bring back a cause that is no error', () => {
    const clean = redactError(new Error('x', { cause: { password: CANARY } }), []);
    expect(shown(clean)).not.toContain('canary');
  });
});

describe('a value that was opened and is no JSON', () => {
  it('is not quoted, though JSON.parse does so', () => {
    const parse = (): unknown => JSON.parse(CANARY);
    expect(parse).toThrow(/p@ss/);
    const decode = (): unknown => decodeValue('Token', Buffer.from(`j${CANARY}`));
    expect(decode).toThrow('its value is not JSON');
    let thrown = new Error('nothing was thrown');
    try {
      decode();
    } catch (error) {
      if (error instanceof Error) thrown = error;
    }
    expect(shown(thrown)).not.toContain('p@ss');
  });
});
