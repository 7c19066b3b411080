import { describe, expect, it } from '@jest/globals';
import { basics } from './access-cases/basics.js';
import { ABSENT, allow, type CaseGroup, type ConditionCase, type Facts, type Row } from './access-cases/case-table.js';
import { combinations } from './access-cases/combinations.js';
import { existence } from './access-cases/conditions-on-existence.js';
import { strings } from './access-cases/conditions-on-strings.js';
import { addresses, numbers } from './access-cases/conditions-on-values.js';
import { decideRow, expectedOf, policySetOf } from './access-cases/decide-case.js';
import { patterns } from './access-cases/patterns.js';
import { referenceVerdict } from './access-cases/reference-evaluator.js';

const ACTION_WITH_KEY = new Map([
  ['secrets:TagKeys', 'TagResource'],
  ['secrets:RecoveryWindowDays', 'DeleteSecret'],
]);

/** An allow under that one condition: whether it is allowed is whether the condition holds. */
function groupOf({ source, operator, key, values, holds, fails }: ConditionCase): CaseGroup {
  const action = ACTION_WITH_KEY.get(key) ?? 'GetSecretValue';
  const rowsOf = (expected: Row[0], facts: ConditionCase['holds']): Row[] =>
    facts.map((fact) => [expected, 'operator/alice', action, 'secret/a', fact === ABSENT ? {} : { [key]: fact }]);
  return {
    title: `${operator} ${key} ${JSON.stringify(values)}`,
    source,
    identity: [
      {
        to: ['operator/alice'],
        statements: [{ ...allow(`secrets:${action}`), Condition: { [operator]: { [key]: values } } }],
      },
    ],
    rows: [...rowsOf('allow', holds), ...rowsOf('none', fails)],
  };
}

const groups = [
  ...basics,
  ...patterns,
  ...combinations,
  ...[...strings, ...numbers, ...addresses, ...existence].map(groupOf),
];

function shown([expected, who, action, what, facts]: Row): string {
  return `${expected}: ${who} ${action} ${what}${facts === undefined ? '' : ` ${JSON.stringify(facts)}`}`;
}

const isKnown = (facts: Facts = {}): boolean => !('not looked up' in facts);

describe('decisions', () => {
  it('are at least 300, none stated twice', () => {
    const all = groups.flatMap(({ title, rows }) => rows.map((row) => `${title}: ${shown(row)}`));
    expect(new Set(all).size).toBe(all.length);
    expect(all.length).toBeGreaterThanOrEqual(300);
  });

  describe.each(groups)('$source: $title', (group) => {
    const policies = policySetOf(group);
    it.each(group.rows.map((row) => [shown(row), row] as const))('%s', (_shown, row) => {
      expect(expectedOf(decideRow(policies, row))).toBe(row[0]);
    });

    it('the reference evaluator agrees', () => {
      const rows = group.rows.filter(([, , , , facts]) => isKnown(facts));
      expect(rows.map((row) => referenceVerdict(group, row))).toEqual(rows.map(([expected]) => expected));
    });
  });
});
