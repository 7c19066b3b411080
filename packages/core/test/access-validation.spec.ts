import { describe, expect, it } from '@jest/globals';
import {
  checkIdentityPolicy,
  checkSecretPolicy,
  isSecretsError,
  principalOf,
  type PolicyFault,
  type PolicyInvalidError,
} from '@nestjs-secrets/core';
import { conditionFaults } from './access-cases/condition-faults.js';
import { document, documentFaults, OK } from './access-cases/document-faults.js';
import { parseAddress, parseRange } from '../src/access/ip-range.js';

function faultsOf(check: () => unknown): readonly PolicyFault[] {
  try {
    check();
  } catch (error) {
    if (isSecretsError(error, 'POLICY_INVALID')) return (error as PolicyInvalidError).faults;
    throw error;
  }
  return [];
}

const identityFaults = (input: unknown, principals: unknown = ['operator/alice']): readonly PolicyFault[] =>
  faultsOf(() => checkIdentityPolicy({ name: 'p', principals, document: input }));
const secretFaults = (...Statement: unknown[]): readonly PolicyFault[] =>
  faultsOf(() => checkSecretPolicy('a', document(...Statement)));

describe('the faults of an identity policy', () => {
  it.each([...documentFaults, ...conditionFaults])('%s', (_title, input, path, message) => {
    const faults = identityFaults(input);
    expect(faults.map((fault) => fault.path)).toEqual([path]);
    expect(faults[0]?.message).toMatch(message);
  });

  it('are all told at once, and shown in the message', () => {
    const input = {
      Version: '2',
      Statement: [
        { Effect: 'Permit', Action: 'x:y', Resource: 'nowhere' },
        { ...OK, Extra: 1 },
      ],
    };
    expect(identityFaults(input).map(({ path }) => path)).toEqual([
      'Version',
      'Statement[0].Effect',
      'Statement[0].Action',
      'Statement[0].Resource',
      'Statement[1].Extra',
    ]);
    expect(() => checkIdentityPolicy({ name: 'p', principals: ['operator/a'], document: input })).toThrow(
      /The policy "p" is not valid; nothing was changed\.\n {2}Version: .*\n {2}Statement\[0\]\.Effect: /,
    );
  });

  it('are a hundred at most', () => {
    const worst = {
      ...OK,
      Action: Array.from({ length: 400 }, () => 'x'),
      Resource: Array.from({ length: 400 }, () => 'y'),
    };
    expect(identityFaults(document(...Array.from({ length: 200 }, () => worst)))).toHaveLength(100);
  });

  it('are those of a name and an attachment as well', () => {
    const check = (name: unknown, principals: unknown): string[] =>
      faultsOf(() => checkIdentityPolicy({ name, principals, document: document(OK) })).map(({ path }) => path);
    expect(check('a/b', ['operator/a'])).toEqual(['name']);
    expect(check('', ['operator/a'])).toEqual(['name']);
    expect(check('p', 'operator/a')).toEqual(['principals']);
    expect(check('p', [])).toEqual(['principals']);
    expect(check('p', ['operator/a', 'alice'])).toEqual(['principals[1]']);
    expect(check('p', ['oper\u0430tor/a'])).toEqual(['principals[0]']);
    expect(
      check(
        'p',
        Array.from({ length: 101 }, () => 'operator/a'),
      ),
    ).toEqual(['principals']);
    expect(check('p', ['operator/a', 'rotator/*', 'remote/arn:aws:iam::1:user/x'])).toEqual([]);
  });
});

describe('JSON text', () => {
  it('passes as the object it is', () => {
    const text = JSON.stringify(document(OK), undefined, 2);
    expect(
      checkIdentityPolicy({ name: 'p', principals: ['operator/a'], document: text }).document.Statement,
    ).toHaveLength(1);
  });

  it('must not have a key twice, however it is spelt', () => {
    const twice = String.raw`{"Version":"1","Statement":[{"Effect":"Deny","Effect":"Allow","Action":"*","\u0041ction":"*","Resource":"*"}]}`;
    expect(identityFaults(twice)).toEqual([
      { path: 'Statement[0].Effect', message: 'is there twice' },
      { path: 'Statement[0].Action', message: 'is there twice' },
    ]);
    const nested = `{"Version":"1","Statement":[${JSON.stringify(OK)},{"Condition":{"Bool":{"a\\"b":1,"a\\"b":2}}}]}`;
    expect(identityFaults(nested).map(({ path }) => path)).toEqual([String.raw`Statement[1].Condition.Bool["a\"b"]`]);
    expect(
      identityFaults(`{"Version":"1","Statement":[{"a":"x,{","a ":[{"a":1}]}]}`).map(({ message }) => message),
    ).not.toContain('is there twice');
  });

  it.each([
    ['nested deeply', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, /nested deeper than 16|at most/],
    ['nested a little too deeply', `{"a":${'['.repeat(20)}${']'.repeat(20)}}`, /nested deeper than 16/],
    ['too long', `"${'x'.repeat(300_000)}"`, /has 300002 characters/],
    ['no JSON', '{"Version":', /is not JSON/],
  ])('is refused when %s', (_title, text, message) => {
    expect(identityFaults(text)[0]?.message).toMatch(message);
  });

  it('that is not JSON is not quoted', () => {
    expect(JSON.stringify(identityFaults('hunter2'))).not.toContain('hunter2');
  });
});

describe('__proto__ and other ways around the keys of an object', () => {
  it.each([
    ['in the document', '{"Version":"1","Statement":[],"__proto__":{"Statement":[]}}', '["__proto__"]'],
    [
      'in a statement',
      `{"Version":"1","Statement":[{"__proto__":{"Effect":"Allow"},"Effect":"Deny","Action":"*","Resource":"*"}]}`,
      'Statement[0]["__proto__"]',
    ],
    [
      'as an operator',
      `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"__proto__":{"x":1}}}]}`,
      'Statement[0].Condition["__proto__"]',
    ],
    [
      'as a key',
      `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"__proto__":true}}}]}`,
      'Statement[0].Condition.Bool["__proto__"]',
    ],
    [
      'constructor',
      `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"constructor":{"x":1}}}]}`,
      'Statement[0].Condition.constructor',
    ],
  ])('%s', (_title, text, path) => {
    expect(identityFaults(text).map((fault) => fault.path)).toContain(path);
    expect(Object.hasOwn(Object.prototype, 'Effect')).toBe(false);
  });

  it('what an object inherits is not part of it', () => {
    const inherited = Object.assign(Object.create({ Effect: 'Allow' }), { Action: '*', Resource: '*' });
    expect(identityFaults(document(inherited))).toEqual([
      { path: 'Statement[0]', message: expect.stringMatching(/not a plain object/) },
    ]);
  });

  it('getters are not called, and what is valid shares nothing with what was handed in', () => {
    let called = 0;
    const computed = { ...OK };
    Object.defineProperty(computed, 'Resource', { enumerable: true, get: () => String((called += 1)) });
    expect(identityFaults(document(computed)).map(({ path }) => path)).toContain('Statement[0].Resource');
    expect(called).toBe(0);

    const mutable = { Version: '1', Statement: [{ ...OK, Resource: ['secret/a'] }] };
    const { document: valid } = checkIdentityPolicy({ name: 'p', principals: ['operator/a'], document: mutable });
    mutable.Statement[0]?.Resource.push('*');
    expect(valid.Statement[0]?.Resource).toEqual(['secret/a']);
    expect(Object.isFrozen(valid.Statement[0]?.Resource)).toBe(true);
  });

  it('an object that contains itself is only another wrong type', () => {
    const circular: Record<string, unknown> = { ...OK };
    circular['Condition'] = circular;
    expect(identityFaults(document(circular)).length).toBeGreaterThan(0);
  });
});

describe('the policy of a secret', () => {
  const FOR_ALICE = { Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal: 'operator/alice' };

  it.each([
    ['no principal', { Effect: 'Allow', Action: '*' }, 'Statement[0].Principal', /is missing/],
    [
      'a principal of no kind',
      { ...FOR_ALICE, Principal: ['operator/a', 'alice'] },
      'Statement[0].Principal[1]',
      /principals are written application\/…/,
    ],
    [
      "RAM's form of principals",
      { ...FOR_ALICE, Principal: { RAM: 'x' } },
      'Statement[0].Principal',
      /is an object where a string belongs/,
    ],
    [
      'an action on something else',
      { ...FOR_ALICE, Action: 'secrets:PutPolicy' },
      'Statement[0].Action',
      /governs nothing else/,
    ],
    ['another secret', { ...FOR_ALICE, Resource: 'secret/b' }, 'Statement[0].Resource', /does not match secret\/a/],
    ['NotResource', { ...FOR_ALICE, NotResource: 'secret/b' }, 'Statement[0].NotResource', /leave it out/],
  ])('%s', (_title, statement, path, message) => {
    const faults = secretFaults(statement);
    expect(faults.map((fault) => fault.path)).toEqual([path]);
    expect(faults[0]?.message).toMatch(message);
  });

  it('may leave its resource out, or name itself', () => {
    for (const Resource of [undefined, '*', 'secret/a', 'secret/*', ['secret/?']]) {
      const { Resource: _none, ...without } = { ...FOR_ALICE, Resource };
      expect(secretFaults(Resource === undefined ? without : { ...FOR_ALICE, Resource })).toEqual([]);
    }
  });
});

describe('everyone', () => {
  const EVERYONE = ['*', '*/*', '**', '?*', 'r*/x', '*/alice'];

  it.each(EVERYONE)('%s may be denied', (Principal) => {
    expect(secretFaults({ Effect: 'Deny', Action: '*', Principal })).toEqual([]);
    expect(identityFaults(document({ ...OK, Effect: 'Deny' }), [Principal])).toEqual([]);
  });

  it.each(EVERYONE)('%s is not allowed anything without a condition on the caller', (Principal) => {
    const allow = { Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal };
    expect(secretFaults(allow)).toEqual([
      { path: 'Statement[0].Principal', message: expect.stringMatching(/callers of every kind/) },
    ]);
    expect(identityFaults(document(OK), [Principal]).map(({ path }) => path)).toEqual(['Statement[0]']);
    const conditions: readonly (readonly [unknown, boolean])[] = [
      [{ StringEquals: { 'secrets:PrincipalAttribute/team': 'a' } }, true],
      [{ StringLike: { 'secrets:Principal': 'operator/*' } }, true],
      [{ IpAddress: { 'secrets:SourceIp': '10.0.0.0/8' } }, true],
      [{ IpAddress: { 'secrets:SourceIp': ['10.0.0.0/8', '0.0.0.0/0'] } }, false],
      [{ StringLike: { 'secrets:Principal': '*' } }, false],
      [{ StringLikeIfExists: { 'secrets:PrincipalAttribute/team': 'a' } }, false],
      [{ StringNotEquals: { 'secrets:PrincipalAttribute/team': 'a' } }, false],
      [{ StringEquals: { 'secrets:Stage': 'current' } }, false],
    ];
    for (const [Condition, passes] of conditions)
      expect(secretFaults({ ...allow, Condition }).length === 0).toBe(passes);
  });

  it.each(['operator/*', 'application/*', 'remote/*'])('%s names a kind and may be allowed', (Principal) => {
    expect(secretFaults({ Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal })).toEqual([]);
  });
});

describe('principals', () => {
  it.each([
    ['user', 'x'],
    ['operator', ''],
    ['operator', 'a b'],
    ['operator', '*'],
    ['operator', 'al\u0456ce'],
    ['operator', 'x'.repeat(193)],
  ])('%s %j cannot ask', (kind, name) => {
    expect(() => principalOf(kind as 'operator', name)).toThrow(
      expect.objectContaining({ code: 'ACCESS_REQUEST_INVALID' }),
    );
  });

  it('are frozen, and share their id across instances', () => {
    const one = principalOf('application', 'MyApp', {
      instanceId: 'i-1',
      attributes: JSON.parse('{"__proto__":"x","team":"a"}'),
    });
    expect(one.id).toBe('application/MyApp');
    expect(Object.isFrozen(one)).toBe(true);
    expect([...one.attributes]).toEqual([
      ['__proto__', 'x'],
      ['team', 'a'],
    ]);
  });
});

describe('addresses', () => {
  it.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '01.2.3.4',
    '1.2.3.4:80',
    '1.2.3.4 ',
    ':',
    ':::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1::2::3',
    '12345::',
    'g::',
    '1.2.3.4::',
    '::1.2.3',
    '1:2:3:4:5:6:7::8',
    '[::1]',
    'unknown',
  ])('%j is none', (text) => expect(parseAddress(text)).toBeUndefined());

  it.each([
    ['0.0.0.0', 4],
    ['::', 6],
    ['1::', 6],
    ['1:2:3:4:5:6:7:8', 6],
    ['1:2:3:4:5:6:1.2.3.4', 6],
    ['::ffff:1.2.3.4', 4],
    ['0:0:0:0:0:ffff:102:304', 4],
    ['::1.2.3.4', 6],
    ['fe80::1%eth0', 6],
  ])('%j is one of IPv%s', (text, family) => expect(parseAddress(text)?.family).toBe(family));

  it('mapped ranges are IPv4 ranges', () => {
    expect(parseRange('::ffff:10.0.0.0/104')).toEqual(parseRange('10.0.0.0/8'));
    expect(parseRange('::ffff:0:0/90')).toMatch(/write an IPv4 range/);
  });
});
