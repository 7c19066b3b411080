import { UNKNOWN } from './access-request.js';
import { type AccessRequest, findConditionKey, type Fact, type NamedKey, type SingleFact } from './condition-keys.js';
import { CONDITION_OPERATORS, toBoolean, type ConditionOperator } from './condition-operators.js';

/** Whether something holds; `unknown` when a fact was not looked up and decides. */
export type Truth = 'yes' | 'no' | 'unknown';

export interface CompiledCondition {
  /** As the policy writes them. */
  readonly operator: string;
  readonly key: NamedKey;
  readonly values: readonly unknown[];
  test(request: AccessRequest): Truth;
}

export type Quantifier = 'ForAnyValue' | 'ForAllValues';

/** An operator as a policy writes it: `ForAnyValue:StringLikeIfExists`. */
export interface WrittenOperator {
  readonly quantifier: Quantifier | undefined;
  readonly ifExists: boolean;
  readonly base: ConditionOperator | 'Null';
}

const WRITTEN = /^(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?$/;

/** Undefined for an operator that does not exist. `Null` takes neither prefix nor suffix, since it asks for existence itself. */
export function parseOperator(written: string): WrittenOperator | undefined {
  if (written === 'Null') return { quantifier: undefined, ifExists: false, base: 'Null' };
  const [, quantifier, name = '', ifExists] = WRITTEN.exec(written) ?? [];
  const base = CONDITION_OPERATORS.get(name);
  if (base === undefined) return undefined;
  const known = quantifier === 'ForAnyValue' || quantifier === 'ForAllValues' ? quantifier : undefined;
  return { quantifier: known, ifExists: ifExists !== undefined, base };
}

/**
 * A condition of a valid policy, ready to be tested. Where a key is absent: false for positive operators, true for negative ones, for every
 * `IfExists` and for `ForAllValues`, false for `ForAnyValue`, as in IAM.
 */
export function compileCondition(written: string, keyName: string, values: readonly unknown[]): CompiledCondition {
  const operator = parseOperator(written);
  const key = findConditionKey(keyName);
  if (operator === undefined || key === undefined) throw new TypeError(`The condition ${written} was not validated.`);
  const { base } = operator;
  const holds = base === 'Null' ? existence(values) : comparison({ ...operator, base }, values);
  return {
    operator: written,
    key,
    values,
    test(request) {
      const fact = key.key.read(request, key.member);
      if (fact === UNKNOWN) return 'unknown';
      return holds(fact) ? 'yes' : 'no';
    },
  };
}

type KnownFact = Exclude<Fact, typeof UNKNOWN>;

function existence(values: readonly unknown[]): (fact: KnownFact) => boolean {
  const wanted = new Set(values.map((value) => toBoolean(value)));
  return (fact) => wanted.has(fact === undefined || (Array.isArray(fact) && fact.length === 0));
}

function comparison(
  { quantifier, ifExists, base }: WrittenOperator & { base: ConditionOperator },
  values: readonly unknown[],
): (fact: KnownFact) => boolean {
  const matchesOne = base.compile(values);
  const holds = (fact: SingleFact): boolean => matchesOne(fact) !== base.negative;
  const whenAbsent = ifExists || quantifier === 'ForAllValues' || (quantifier === undefined && base.negative);
  return (fact) => {
    if (fact === undefined) return whenAbsent;
    if (!isMany(fact)) return holds(fact);
    if (fact.length === 0) return whenAbsent;
    return quantifier === 'ForAllValues' ? fact.every(holds) : fact.some(holds);
  };
}

function isMany(fact: SingleFact | readonly string[]): fact is readonly string[] {
  return Array.isArray(fact);
}
