import type { ActionDescription } from './actions.js';
import { CONDITION_KEYS, findConditionKey, type NamedKey } from './condition-keys.js';
import { CONDITION_OPERATORS, toBoolean } from './condition-operators.js';
import { parseOperator, type WrittenOperator } from './conditions.js';
import { POLICY_LIMITS, type ValidStatement } from './policy-document.js';
import { type Faults, lookalikeFault, memberPath, quoted, readMembers, readObject } from './policy-faults.js';

type ConditionBlock = NonNullable<ValidStatement['Condition']>;
type ConditionValue = string | number | boolean;

/** What stands under `Condition`, with lists everywhere. Reports what is wrong with it for a statement over `actions`. */
export function readCondition(
  value: unknown,
  path: string,
  actions: readonly ActionDescription[],
  faults: Faults,
): ConditionBlock | undefined {
  const operators = readObject(value, path, faults, POLICY_LIMITS.conditions);
  if (operators === undefined) return undefined;
  if (operators.size === 0) faults.add(path, 'is empty: leave it out, or say what must hold');
  const block: Record<string, Record<string, readonly ConditionValue[]>> = {};
  for (const [written, keysValue] of operators) {
    const at = memberPath(path, written);
    const operator = parseOperator(written);
    if (operator === undefined) {
      faults.add(at, unknownOperator(written));
      continue;
    }
    const keys = readObject(keysValue, at, faults, POLICY_LIMITS.conditions);
    if (keys === undefined) continue;
    if (keys.size === 0) faults.add(at, 'is empty: leave it out, or say which key');
    const row: Record<string, readonly ConditionValue[]> = {};
    for (const [keyName, values] of keys) {
      const named = readKey(keyName, memberPath(at, keyName), actions, operator, faults);
      if (named !== undefined) row[keyName] = readValues(values, memberPath(at, keyName), operator, named, faults);
    }
    block[written] = row;
  }
  return block;
}

function unknownOperator(written: string): string {
  const lookalike = lookalikeFault(written);
  if (lookalike !== undefined) return `is not an operator: it ${lookalike}`;
  if (/^(For(Any|All)Values?:)?Null(IfExists)?$/.test(written)) return 'is not an operator: Null stands alone';
  const meant = [...CONDITION_OPERATORS.keys(), 'Null'].find((name) => name.toLowerCase() === written.toLowerCase());
  if (meant !== undefined) return `is not an operator: write ${meant}`;
  return `is not an operator; there are: ${[...CONDITION_OPERATORS.keys()].join(', ')} (each also with IfExists) and Null`;
}

function readKey(
  keyName: string,
  path: string,
  actions: readonly ActionDescription[],
  operator: WrittenOperator,
  faults: Faults,
): NamedKey | undefined {
  const named = findConditionKey(keyName);
  if (named === undefined) {
    const meant = CONDITION_KEYS.find(({ name }) => name.toLowerCase() === keyName.toLowerCase());
    const all = CONDITION_KEYS.map(({ name }) => name).join(', ');
    const why = lookalikeFault(keyName) ?? (meant === undefined ? `there are: ${all}` : `write ${meant.name}`);
    faults.add(path, `is not a condition key: ${why}`);
    return undefined;
  }
  const { key, member } = named;
  const wrongText = textFault(member);
  if (wrongText !== undefined) faults.add(path, wrongText);
  if (!key.everywhere && !actions.some(({ keys }) => keys.has(key.name)))
    faults.add(path, `is never there: no action of this statement comes with ${key.name}`);
  if (operator.base === 'Null') return named;
  if (!operator.base.kinds.includes(key.kind))
    faults.add(path, `takes no ${operator.base.name}: what it holds is of the kind ${key.kind}`);
  if (key.many && operator.quantifier === undefined)
    faults.add(path, 'can have several values: say ForAnyValue: or ForAllValues: before the operator');
  if (!key.many && operator.quantifier !== undefined)
    faults.add(path, `has one value at most: leave ${operator.quantifier}: out`);
  return named;
}

function readValues(
  value: unknown,
  path: string,
  operator: WrittenOperator,
  { key }: NamedKey,
  faults: Faults,
): readonly ConditionValue[] {
  const valid: ConditionValue[] = [];
  for (const [at, member] of readMembers(value, path, faults) ?? []) {
    if (typeof member !== 'string' && typeof member !== 'number' && typeof member !== 'boolean') {
      faults.add(at, 'is not a string, a number or a boolean');
      continue;
    }
    const wrong =
      (typeof member === 'string' ? (textFault(member) ?? asciiFault(member, key.kind)) : undefined) ??
      (operator.base === 'Null'
        ? toBoolean(member) === undefined
          ? 'is not true (must be absent) or false (must be there)'
          : undefined
        : operator.base.fault(member)) ??
      (key.known !== undefined && operator.base !== 'Null' && operator.base.name.endsWith('Equals')
        ? unknownValue(String(member), key.known)
        : undefined);
    if (wrong !== undefined) faults.add(at, typeof member === 'string' ? `${quoted(member)} ${wrong}` : wrong);
    valid.push(member);
  }
  return valid;
}

function unknownValue(value: string, known: readonly string[]): string | undefined {
  return known.includes(value) ? undefined : `can never match; there are: ${known.join(', ')}`;
}

/** Texts of users' own are in any script, but one that no eye can tell from another is refused. */
function textFault(text: string): string | undefined {
  if (text.length > POLICY_LIMITS.memberCharacters)
    return `has ${text.length} characters; at most ${POLICY_LIMITS.memberCharacters} are possible`;
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(text)) return 'has a character that cannot be seen';
  if (text !== text.normalize('NFC')) return 'is not in the Unicode normalization form NFC';
  if (text.includes('${')) return 'looks like a policy variable, and this dialect has none';
  return undefined;
}

function asciiFault(text: string, kind: string): string | undefined {
  return kind === 'text' ? undefined : lookalikeFault(text);
}
