import { readFile } from 'node:fs/promises';
import { describe, expect, it } from '@jest/globals';
import { OPERATIONS, SecretsManager, type PolicyDocument, type PolicyStatement } from '@nestjs-secrets/core';
import { CONDITION_KEYS } from '../src/access/condition-keys.js';
import { CONDITION_OPERATORS } from '../src/access/condition-operators.js';
import type { CaseGroup, Facts, Row } from './access-cases/case-table.js';
import { decideRow, expectedOf, policySetOf } from './access-cases/decide-case.js';

const page = await readFile(new URL('../../../docs/access-control.md', import.meta.url), 'utf8');

const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const rule = (columns: number): string => `|${'---|'.repeat(columns)}`;
const code = (text: string): string => `\`${text}\``;

function actionTable(): string {
  const rows = Object.entries(OPERATIONS).map(([operation, { action, access, resource, door, keys }]) =>
    row(
      code(action),
      code(operation),
      access,
      resource,
      door,
      keys.map((key) => code(key.replace('secrets:', ''))).join(' '),
    ),
  );
  return [row('action', 'operation', 'access', 'on', 'comes in by', 'keys'), rule(6), ...rows].join('\n');
}

function keyTable(): string {
  const rows = CONDITION_KEYS.map(({ name, kind, many, everywhere, meaning }) =>
    row(
      code(name),
      `${kind === 'text' ? 'text, number, date or boolean' : kind}${many ? ', several' : ''}`,
      everywhere ? 'every' : 'see the actions',
      meaning,
    ),
  );
  return [row('key', 'kind', 'requests', 'is'), rule(4), ...rows].join('\n');
}

const tableOf = (name: string): string | undefined =>
  new RegExp(`<!-- table: ${name} -->\n(.*?)\n?<!-- end -->`, 's').exec(page)?.[1];

interface WorkedPolicy {
  readonly title: string;
  readonly group: CaseGroup;
}

function workedPolicies(): WorkedPolicy[] {
  return [...page.matchAll(/^### (\d+\. .+?)$(.*?)(?=^##)/gms)].map(([, title = '', section = '']) => {
    const json = /^```json\n(.*?)^```$/ms.exec(section)?.[1] ?? 'null';
    const policy: { principals?: string[]; secret?: string; document: PolicyDocument } = JSON.parse(json);
    const statements: readonly PolicyStatement[] = policy.document.Statement;
    const rows = [...section.matchAll(/^\| (\w+\/\S+) \| (\w+) \| (\S+) \| (.*?) ?\| (\w+) \|$/gm)].map(rowOf);
    const group: CaseGroup = {
      title,
      source: 'own',
      ...(policy.principals === undefined ? {} : { identity: [{ to: policy.principals, statements }] }),
      ...(policy.secret === undefined ? {} : { secrets: { [policy.secret]: statements } }),
      rows,
    };
    return { title, group };
  });
}

function rowOf([, who = '', action = '', what = '', facts = '', expected = '']: RegExpMatchArray): Row {
  const pairs = facts.split(' ').flatMap((fact) => {
    const [key = '', value = ''] = fact.split('=');
    return key === '' ? [] : [[key, value === 'true' || value === 'false' ? value === 'true' : value] as const];
  });
  const known: Facts = Object.fromEntries(pairs);
  return [expected as Row[0], who, action, what, known];
}

describe('docs/access-control.md', () => {
  it('has the table of actions as it is', () => {
    expect(tableOf('actions')).toBe(actionTable());
  });

  it('has the table of condition keys as it is', () => {
    expect(tableOf('keys')).toBe(keyTable());
  });

  it('names every operator', () => {
    for (const operator of CONDITION_OPERATORS.keys()) expect(page).toContain(`\`${operator}\``);
  });

  it('has ten policies, each with what it decides', () => {
    expect(workedPolicies().map(({ title }) => Number.parseInt(title, 10))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (const { group } of workedPolicies())
      expect(new Set(group.rows.map(([expected]) => expected)).size).toBeGreaterThan(1);
  });

  it('has no line in their tables that is not decided', () => {
    const lines = page.split('\n').filter((line) => /^\| (application|rotator|operator|remote)\//.test(line));
    expect(workedPolicies().flatMap(({ group }) => group.rows)).toHaveLength(lines.length);
    expect(lines.length).toBeGreaterThan(40);
  });

  it.each(workedPolicies())('$title decides as its table says', ({ group }) => {
    const policies = policySetOf(group);
    expect(group.rows.map((row) => [...row.slice(1, 4), expectedOf(decideRow(policies, row))])).toEqual(
      group.rows.map(([expected, who, action, what]) => [who, action, what, expected]),
    );
  });
});

describe('the table of operations', () => {
  const doors = Object.values(OPERATIONS).map(({ door }) => door);

  it('has every public method of SecretsManager', () => {
    // `as` only says who asks.
    const noOperations = ['constructor', 'as'];
    const methods = Object.getOwnPropertyNames(SecretsManager.prototype).filter((name) => !noOperations.includes(name));
    expect(methods.length).toBeGreaterThan(10);
    const named = doors.filter((door) => door.startsWith('SecretsManager')).join(' ');
    expect(
      methods.filter((method) => !new RegExp(`\\.${method.replace('$', String.raw`\$`)}(?![A-Za-z])`).test(named)),
    ).toEqual([]);
  });

  it('gives each action one kind of access and one type of resource', () => {
    for (const { action, access, resource } of Object.values(OPERATIONS)) {
      const same = Object.values(OPERATIONS).filter((other) => other.action === action);
      expect(same.every((other) => other.access === access && other.resource === resource)).toBe(true);
    }
  });

  it('names each door once', () => {
    expect(new Set(doors).size).toBe(doors.length);
  });
});
