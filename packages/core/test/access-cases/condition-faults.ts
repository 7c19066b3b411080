import { document, OK } from './document-faults.js';

type Row = readonly [title: string, operator: string, key: string, value: unknown, message: RegExp, where?: string];

const STAGE = 'secrets:Stage';
const IP = 'secrets:SourceIp';
const TIME = 'secrets:CurrentTime';
const TAG = 'secrets:ResourceTag/env';

/** What is wrong with the operator of a condition, or with all of it. */
const OPERATORS: readonly (readonly [title: string, condition: unknown, path: string, message: RegExp])[] = [
  ['a condition that is a list', [], '', /is a list/],
  ['an empty condition', {}, '', /is empty/],
  [
    'an unknown operator',
    { StringMatches: { [STAGE]: 'x' } },
    '.StringMatches',
    /no.* operator; there are: StringEquals/,
  ],
  ['an operator in the wrong case', { stringEquals: { [STAGE]: 'x' } }, '.stringEquals', /write StringEquals/],
  ['an operator of ARNs', { ArnLike: { 'secrets:Principal': '*' } }, '.ArnLike', /not an operator/],
  ['NullIfExists', { NullIfExists: { [STAGE]: true } }, '.NullIfExists', /Null stands alone/],
  ['a lookalike operator', { 'Str\u0456ngEquals': { [STAGE]: 'x' } }, '["Str\u0456ngEquals"]', /U\+0456/],
  ['an operator without keys', { Bool: {} }, '.Bool', /is empty/],
  ['an operator with a list', { Bool: [] }, '.Bool', /is a list/],
  ['a key under an operator in a list', { Bool: ['x'] }, '.Bool', /is a list/],
];

/** What is wrong with a key or a value; `where` follows the key in the path. */
const KEYS_AND_VALUES: readonly Row[] = [
  ['an unknown key', 'StringEquals', 'secrets:Stages', 'x', /not a condition key/],
  ['a key in the wrong case', 'StringEquals', 'secrets:stage', 'x', /write secrets:Stage/],
  ['a key of elsewhere', 'IpAddress', 'aws:SourceIp', '1.1.1.1', /not a condition key/],
  ['a lookalike key', 'StringEquals', 'secrets:St\u0430ge', 'x', /U\+0430/],
  ['a family without a member', 'StringEquals', 'secrets:ResourceTag/', 'x', /not a condition key/],
  ['a key that the action never has', 'NumericEquals', 'secrets:RecoveryWindowDays', 7, /is never there/],
  ['an operator for another kind', 'NumericEquals', STAGE, 1, /takes no NumericEquals/],
  ['a string operator on addresses', 'StringLike', IP, '10.*', /takes no StringLike/],
  ['a list of values without any', 'StringEquals', STAGE, [], /is empty/],
  ['a value of a wrong type', 'StringEquals', STAGE, ['x', 1], /is not a string/, '[1]'],
  ['a value that is an object', 'StringEquals', STAGE, {}, /is not a string, a number or a boolean/],
  ['a value that is null', 'StringEquals', STAGE, null, /is not a string, a number or a boolean/],
  ['a number that is none', 'NumericEquals', 'secrets:EpochTime', '1e3', /not a decimal number/],
  ['a number that is infinite', 'NumericEquals', 'secrets:EpochTime', Number.POSITIVE_INFINITY, /not a decimal/],
  ['a day that does not exist', 'DateLessThan', TIME, '2026-02-30', /is not a date/],
  ['a time without a zone', 'DateLessThan', TIME, '2026-02-03T12:00:00', /is not a date/],
  ['a time that does not exist', 'DateLessThan', TIME, '2026-02-03T25:00:00Z', /is not a date/],
  ['a boolean that is none', 'Bool', 'secrets:MFAPresent', 'yes', /not true or false/],
  ['a Null that is neither', 'Null', STAGE, 'maybe', /must be absent/],
  ['an address that is none', 'IpAddress', IP, '10.0.0', /not an IP address/],
  ['an address that is a number', 'IpAddress', IP, 10, /is not a string/],
  ['a range with bits too many', 'IpAddress', IP, '10.0.0.1/8', /bits set beyond/],
  ['a range of IPv6 with bits too many', 'IpAddress', IP, '2001:db8::1/64', /bits set beyond/],
  ['a prefix length too long', 'IpAddress', IP, '10.0.0.0/33', /not 0 to 32/],
  ['a prefix length with a sign', 'IpAddress', IP, '10.0.0.0/+8', /not 0 to 32/],
  ['a set operator on one value', 'ForAllValues:StringEquals', STAGE, 'x', /has one value at most/],
  ['a kind that is none', 'StringEquals', 'secrets:PrincipalKind', 'user', /can never match; there are: application/],
  ['an operation that is none', 'StringEquals', 'secrets:Operation', 'GetSecretValue', /there are: createSecret/],
  ['a lookalike stage', 'StringEquals', STAGE, '\u0441urrent', /U\+0441/],
  [
    'a search too long for one integer',
    'StringLike',
    TAG,
    `*${'a'.repeat(40)}?*`,
    /41 characters with a \? among them/,
  ],
  ['a tag that cannot be seen', 'StringEquals', TAG, 'pro\u200Bd', /cannot be seen/],
  ['a tag that runs backwards', 'StringEquals', TAG, '\u202Edorp', /cannot be seen/],
  ['a tag that is not normalised', 'StringEquals', TAG, 'o\u0308', /NFC/],
  ['a tag beyond all measure', 'StringEquals', TAG, 'x'.repeat(513), /513 characters; at most 512/],
  ['a variable', 'StringEquals', TAG, '${secrets:Principal}', /policy variable/],
];

const AT = 'Statement[0].Condition';
const within = (condition: unknown): unknown => document({ ...OK, Condition: condition });
const member = (operator: string): string => (operator.includes(':') ? `["${operator}"]` : `.${operator}`);

/** As `documentFaults`, of conditions. */
export const conditionFaults: readonly (readonly [title: string, input: unknown, path: string, message: RegExp])[] = [
  ...OPERATORS.map(([title, input, path, message]) => [title, within(input), AT + path, message] as const),
  ...KEYS_AND_VALUES.map(
    ([title, operator, key, value, message, where = '']) =>
      [title, within({ [operator]: { [key]: value } }), `${AT}${member(operator)}["${key}"]${where}`, message] as const,
  ),
  [
    'several values without a word on how',
    document({
      Effect: 'Allow',
      Action: 'secrets:TagResource',
      Resource: '*',
      Condition: { StringEquals: { 'secrets:TagKeys': 'a' } },
    }),
    `${AT}.StringEquals["secrets:TagKeys"]`,
    /say ForAnyValue: or ForAllValues:/,
  ],
];
