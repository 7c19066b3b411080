import type { FactKind, SingleFact } from './condition-keys.js';
import { Glob, globFault } from './glob.js';
import { isWithin, parseRange, type AddressRange } from './ip-range.js';

/** How the values that a policy writes become a test of one fact. */
export interface ConditionOperator {
  readonly name: string;
  readonly kinds: readonly FactKind[];
  /** True for "not …": it is the opposite of its positive form, and true where the key is absent. */
  readonly negative: boolean;
  /** What is wrong with a value, such as `is not a number`; undefined when nothing is. */
  fault(value: unknown): string | undefined;
  /** Whether a fact equals, resembles, exceeds… one of the values, which have no fault. The opposite for negative operators is the caller's. */
  compile(values: readonly unknown[]): (fact: SingleFact) => boolean;
}

type Shape = Pick<ConditionOperator, 'kinds' | 'fault' | 'compile'>;

const STRING_KINDS: readonly FactKind[] = ['string', 'text'];
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const textFault = (value: unknown): string | undefined => (typeof value === 'string' ? undefined : 'is not a string');

const equals: Shape = {
  kinds: STRING_KINDS,
  fault: textFault,
  compile(values) {
    const wanted = new Set(values);
    return (fact) => wanted.has(fact);
  },
};

const equalsIgnoringCase: Shape = {
  kinds: STRING_KINDS,
  fault: textFault,
  compile(values) {
    const wanted = new Set(values.map((value) => foldAscii(text(value))));
    return (fact) => typeof fact === 'string' && wanted.has(foldAscii(fact));
  },
};

const like: Shape = {
  kinds: STRING_KINDS,
  fault: (value) => textFault(value) ?? globFault(text(value)),
  compile(values) {
    const globs = values.map((value) => new Glob(text(value)));
    return (fact) => typeof fact === 'string' && globs.some((glob) => glob.matches(fact));
  },
};

const bool: Shape = {
  kinds: ['boolean', 'text'],
  fault: (value) => (toBoolean(value) === undefined ? 'is not true or false' : undefined),
  compile(values) {
    const wanted = new Set(values.map(toBoolean));
    return (fact) => wanted.has(typeof fact === 'object' ? undefined : toBoolean(fact));
  },
};

const address: Shape = {
  kinds: ['address'],
  fault(value) {
    if (typeof value !== 'string') return 'is not a string';
    const range = parseRange(value);
    return typeof range === 'string' ? range : undefined;
  },
  compile(values) {
    const ranges = values
      .map((value) => parseRange(text(value)))
      .filter((range): range is AddressRange => typeof range === 'object');
    return (fact) => typeof fact === 'object' && ranges.some((range) => isWithin(fact, range));
  },
};

type Comparison = (fact: number, value: number) => boolean;

function numeric(compare: Comparison): Shape {
  const fault = (value: unknown): string | undefined =>
    toNumber(value) === undefined ? 'is not a decimal number' : undefined;
  return { kinds: ['number', 'text'], fault, compile: (values) => comparing(values, toNumber, compare) };
}

function date(compare: Comparison): Shape {
  const fault = (value: unknown): string | undefined =>
    toTime(value) === undefined
      ? 'is not a date: write 2026-01-31T12:00:00Z (seconds and fractions optional, or an offset such as +08:00), 2026-01-31, or seconds since 1970'
      : undefined;
  return { kinds: ['date', 'text'], fault, compile: (values) => comparing(values, toTime, compare) };
}

function comparing(
  values: readonly unknown[],
  read: (value: unknown) => number | undefined,
  compare: Comparison,
): (fact: SingleFact) => boolean {
  const wanted = values.map(read).filter((value) => value !== undefined);
  return (fact) => {
    // A date that the process states is in milliseconds; one that a policy or a tag writes as a number is in seconds.
    const known = typeof fact === 'number' ? fact : read(fact);
    return known !== undefined && wanted.some((value) => compare(known, value));
  };
}

const COMPARISONS: readonly (readonly [name: string, compare: Comparison])[] = [
  ['LessThan', (fact, value) => fact < value],
  ['LessThanEquals', (fact, value) => fact <= value],
  ['GreaterThan', (fact, value) => fact > value],
  ['GreaterThanEquals', (fact, value) => fact >= value],
];
const same: Comparison = (fact, value) => fact === value;

function pair(positive: string, opposite: string, shape: Shape): ConditionOperator[] {
  return [
    { name: positive, negative: false, ...shape },
    { name: opposite, negative: true, ...shape },
  ];
}

/** The operators of RAM, by name, without `Null` and without prefix and suffix. */
export const CONDITION_OPERATORS: ReadonlyMap<string, ConditionOperator> = new Map(
  [
    ...pair('StringEquals', 'StringNotEquals', equals),
    ...pair('StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase', equalsIgnoringCase),
    ...pair('StringLike', 'StringNotLike', like),
    ...pair('NumericEquals', 'NumericNotEquals', numeric(same)),
    ...COMPARISONS.map(([name, compare]) => ({ name: `Numeric${name}`, negative: false, ...numeric(compare) })),
    ...pair('DateEquals', 'DateNotEquals', date(same)),
    ...COMPARISONS.map(([name, compare]) => ({ name: `Date${name}`, negative: false, ...date(compare) })),
    { name: 'Bool', negative: false, ...bool },
    ...pair('IpAddress', 'NotIpAddress', address),
  ].map((operator) => [operator.name, operator]),
);

/** `true` and `false`, also as strings, as RAM writes them. */
export function toBoolean(value: unknown): boolean | undefined {
  if (value === true || value === 'true') return true;
  return value === false || value === 'false' ? false : undefined;
}

const DECIMAL_NUMBER = /^-?\d{1,15}(\.\d{1,15})?$/;
const EPOCH_SECONDS = /^\d{1,11}$/;
const ISO_DATE = /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2})(:\d{2}(?:\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2}))?$/;

function toNumber(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  return typeof value === 'string' && DECIMAL_NUMBER.test(value) ? Number(value) : undefined;
}

/** Milliseconds since the epoch, of the ISO 8601 profile https://www.w3.org/TR/NOTE-datetime or of whole seconds since 1970. */
function toTime(value: unknown): number | undefined {
  if (typeof value === 'number')
    return Number.isInteger(value) && value >= 0 && value < 1e11 ? value * 1000 : undefined;
  if (typeof value !== 'string') return undefined;
  if (EPOCH_SECONDS.test(value)) return Number(value) * 1000;
  const [, day = '', minutes = '00:00', seconds = ':00', zone = 'Z'] = ISO_DATE.exec(value) ?? [];
  // The parser takes the 30th of February for the 2nd of March.
  const midnight = Date.parse(`${day}T00:00:00Z`);
  if (Number.isNaN(midnight) || new Date(midnight).toISOString().slice(0, 10) !== day) return undefined;
  const time = Date.parse(`${day}T${minutes}${seconds}${zone}`);
  return Number.isNaN(time) ? undefined : time;
}

/** Lower case for A to Z only: Unicode's own rules would make the Kelvin sign a k. */
function foldAscii(value: string): string {
  return value.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}
