import type { PolicyStatement } from '@nestjs-secrets/core';
import type { CaseGroup, Expected, Facts, Row } from './case-table.js';

/**
 * A second evaluator, written from the vendors' pages alone and as plainly as possible: regular expressions, big integers, no index, no
 * compilation, no validation. It is what the real one is held against, and shares nothing with it.
 */
export function referenceVerdict(
  { identity = [], secrets = {} }: Pick<CaseGroup, 'identity' | 'secrets'>,
  [, who, action, what, facts = {}]: Row,
): Expected {
  const all: PolicyStatement[] = [];
  for (const { to, statements } of identity) if (anyLike(to, who)) all.push(...statements);
  for (const [name, statements] of Object.entries(secrets)) {
    if (what !== `secret/${name}`) continue;
    all.push(...statements.filter(({ Principal = [] }) => anyLike(many(Principal), who)));
  }
  const fitting = all.filter((statement) =>
    fits(statement, `secrets:${action}`, what, { ...inherent(who, facts), ...facts }),
  );
  if (fitting.some(({ Effect }) => Effect === 'Deny')) return 'deny';
  return fitting.length > 0 ? 'allow' : 'none';
}

function inherent(who: string, facts: Facts): Facts {
  const stem = 'secrets:RequestTag/';
  const tagKeys = Object.keys(facts).flatMap((key) => (key.startsWith(stem) ? [key.slice(stem.length)] : []));
  return {
    'secrets:Principal': who,
    'secrets:PrincipalKind': who.slice(0, who.indexOf('/')),
    'secrets:TagKeys': tagKeys,
  };
}

function fits(statement: PolicyStatement, action: string, what: string, facts: Facts): boolean {
  const { Action, NotAction, Resource, NotResource, Condition = {} } = statement;
  if (Action !== undefined && !anyLike(many(Action), action)) return false;
  if (NotAction !== undefined && anyLike(many(NotAction), action)) return false;
  if (Resource !== undefined && !anyLike(many(Resource), what)) return false;
  if (NotResource !== undefined && anyLike(many(NotResource), what)) return false;
  return Object.entries(Condition).every(([operator, keys]) =>
    Object.entries(keys).every(([key, values]) => holds(operator, many(values), facts[key])),
  );
}

function holds(operator: string, values: readonly unknown[], fact: Facts[string] | undefined): boolean {
  const isAbsent = fact === undefined || (Array.isArray(fact) && fact.length === 0);
  if (operator === 'Null') return values.some((value) => String(value) === String(isAbsent));
  if (operator.endsWith('IfExists')) return isAbsent || holds(operator.slice(0, -'IfExists'.length), values, fact);
  if (operator.startsWith('ForAllValues:')) {
    const inner = operator.slice('ForAllValues:'.length);
    return isAbsent || many(fact).every((one) => holds(inner, values, one));
  }
  if (operator.startsWith('ForAnyValue:')) {
    const inner = operator.slice('ForAnyValue:'.length);
    return !isAbsent && many(fact).some((one) => holds(inner, values, one));
  }
  if (/^(String|Numeric|Date)Not/.test(operator)) return !holds(operator.replace('Not', ''), values, fact);
  if (operator === 'NotIpAddress') return !holds('IpAddress', values, fact);
  return !isAbsent && values.some((value) => matches(operator, value, fact));
}

function matches(operator: string, value: unknown, fact: unknown): boolean {
  const [one, other] = [String(fact), String(value)];
  switch (operator) {
    case 'StringEquals':
      return one === other;
    case 'StringEqualsIgnoreCase':
      return one.replaceAll(/[a-z]/g, upper) === other.replaceAll(/[a-z]/g, upper);
    case 'StringLike':
      return like(other, one);
    case 'Bool':
      return one === other;
    case 'IpAddress':
      return inRange(one, other);
    default:
  }
  const read = operator.startsWith('Date') ? seconds : decimal;
  const [left, right] = [read(one), read(other)];
  switch (operator.replace(/^(Numeric|Date)/, '')) {
    case 'Equals':
      return left === right;
    case 'LessThan':
      return left < right;
    case 'LessThanEquals':
      return left <= right;
    case 'GreaterThan':
      return left > right;
    case 'GreaterThanEquals':
      return left >= right;
    default:
      throw new Error(`the reference does not know ${operator}`);
  }
}

const upper = (letter: string): string => letter.toUpperCase();
const many = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

function anyLike(patterns: readonly string[], text: string): boolean {
  return patterns.some((pattern) => like(pattern, text));
}

function like(pattern: string, text: string): boolean {
  const source = pattern.replaceAll(/[\\^$.|+()[\]{}/-]/g, String.raw`\$&`);
  return new RegExp(`^${source.replaceAll('*', String.raw`[\s\S]*`).replaceAll('?', String.raw`[\s\S]`)}$`).test(text);
}

function decimal(text: string): number {
  if (/^\d{4}-/.test(text)) return Math.floor(Date.parse(text) / 1000);
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
}

function seconds(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Date.parse(text) / 1000;
}

function inRange(address: string, range: string): boolean {
  const [base = '', length] = range.split('/');
  const [one, other] = [bits(address), bits(base)];
  if (one.family !== other.family) return false;
  const width = base.includes(':') ? 128 : 32;
  const shift = BigInt(width - Number(length ?? width));
  return one.value >> shift === other.value >> shift;
}

/** IPv4, and IPv4 mapped into IPv6, are one family. */
function bits(written: string): { family: 4 | 6; value: bigint } {
  const text = written.replace(/%.*/, '').replace(/\d+\.\d+\.\d+\.\d+$/, (v4) => {
    const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number);
    return written.includes(':') ? `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}` : v4;
  });
  if (!text.includes(':')) {
    return { family: 4, value: text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n) };
  }
  const [front = '', back] = text.split('::');
  const groups = (half: string): string[] => (half === '' ? [] : half.split(':'));
  const [left, right] = [groups(front), groups(back ?? '')];
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  const value = [...left, ...zeros, ...right].reduce((sum, group) => sum * 65_536n + BigInt(`0x${group}`), 0n);
  return value >> 32n === 0xffffn ? { family: 4, value: value & 0xffff_ffffn } : { family: 6, value };
}
