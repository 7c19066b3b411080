import type { PolicyStatement, Randomness } from '@nestjs-secrets/core';
import type { CaseGroup, Facts, Row } from './case-table.js';

export type World = Required<Pick<CaseGroup, 'identity' | 'secrets'>>;

const PRINCIPALS = ['operator/alice', 'operator/bob', 'application/MyApp', 'rotator/pg', 'remote/eu-1', 'remote/eu-22'];
const ATTACHMENTS = [...PRINCIPALS, 'operator/*', '*/alice', 'remote/eu-?', 'remote/*', 'application/My*'];
const NARROW_ATTACHMENTS = ATTACHMENTS.filter((pattern) => !pattern.startsWith('*'));
const ACTIONS = ['GetSecretValue', 'PutSecretValue', 'DeleteSecret', 'TagResource', 'DescribeSecret'];
const ACTION_PATTERNS = [
  ...ACTIONS.map((name) => `secrets:${name}`),
  'secrets:*',
  '*',
  'secrets:Get*',
  'secrets:*Secret*',
  'secrets:?etSecretValue',
  '*Value',
];
const NAMES = ['a', 'b', 'a/b', 'a/b/c', 'ab', 'ba', 'a/a/b', 'bbb', 'aab/ab'];
const ADDRESSES = ['10.0.0.1', '10.200.0.1', '192.168.1.9', '::ffff:10.0.0.1', '2001:db8::1', '2001:db8:8000::5'];
const TIMES = ['2026-01-01T00:00:00Z', '2026-06-15T12:00:00Z', '2026-12-31T23:59:59Z'];
const WORDS = ['prod', 'dev', 'Prod', 'p', ''];

/** Keys with what requests have under them and what policies ask of them. */
const CONDITIONS: readonly {
  key: string;
  facts: readonly Facts[string][];
  operators: readonly string[];
  values: readonly (string | number | boolean)[];
}[] = [
  {
    key: 'secrets:ResourceTag/env',
    facts: WORDS,
    operators: ['StringEquals', 'StringNotEquals', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase', 'Null'],
    values: ['prod', 'dev'],
  },
  {
    key: 'secrets:ResourceTag/env',
    facts: WORDS,
    operators: ['StringLike', 'StringNotLike'],
    values: ['p*', '*o*', '???', '*', 'd?v'],
  },
  {
    key: 'secrets:ResourceTag/tier',
    facts: ['1', '2', '2.5', 'two'],
    operators: ['NumericEquals', 'NumericNotEquals', 'NumericLessThan', 'NumericGreaterThanEquals'],
    values: [1, '2', 2.5],
  },
  {
    key: 'secrets:SourceIp',
    facts: ADDRESSES,
    operators: ['IpAddress', 'NotIpAddress'],
    values: ['10.0.0.0/9', '192.168.1.9', '2001:db8::/33', '0.0.0.0/0', '::/1'],
  },
  {
    key: 'secrets:CurrentTime',
    facts: TIMES,
    operators: ['DateLessThan', 'DateGreaterThanEquals', 'DateEquals', 'DateNotEquals'],
    values: ['2026-06-15T14:00:00+02:00', '2026-03-01', 1_767_225_600],
  },
  { key: 'secrets:MFAPresent', facts: [true, false], operators: ['Bool', 'Null'], values: [true, 'false'] },
  {
    key: 'secrets:Principal',
    facts: [],
    operators: ['StringLike', 'StringNotLike', 'StringEquals'],
    values: ['operator/*', 'application/MyApp', '*eu*'],
  },
];

/** Worlds of policies and requests to them, the same for the same randomness. */
export class RandomPolicies {
  #sids = 0;

  constructor(private readonly randomness: Randomness) {}

  pick<T>(items: readonly T[]): T {
    const item = items[this.randomness.below(items.length)];
    if (item === undefined) throw new RangeError('nothing to pick from');
    return item;
  }

  chance(percent: number): boolean {
    return this.randomness.below(100) < percent;
  }

  times<T>(least: number, most: number, make: () => T): T[] {
    return Array.from({ length: least + this.randomness.below(most - least + 1) }, make);
  }

  shuffled<T>(items: readonly T[]): T[] {
    return items
      .map((item) => ({ item, rank: this.randomness.below(1_000_000) }))
      .sort((one, other) => one.rank - other.rank)
      .map(({ item }) => item);
  }

  world(policies: number): World {
    const identity = Array.from({ length: policies }, () => {
      const effect = this.effect();
      const to = this.times(1, 2, () => this.pick(effect === 'Deny' ? ATTACHMENTS : NARROW_ATTACHMENTS));
      return { to, statements: this.times(1, 3, () => this.statement(effect === 'Deny' ? 'Deny' : this.effect())) };
    });
    const secrets = Object.fromEntries(
      this.times(0, 2, () => [this.pick(NAMES), this.times(1, 2, () => this.secretStatement())] as const),
    );
    return { identity, secrets };
  }

  effect(): 'Allow' | 'Deny' {
    return this.chance(30) ? 'Deny' : 'Allow';
  }

  statement(Effect: 'Allow' | 'Deny'): PolicyStatement {
    // So that there is something left to be allowed.
    const actions = this.times(1, 2, () =>
      this.pick(Effect === 'Deny' ? ACTION_PATTERNS.slice(0, 5) : ACTION_PATTERNS),
    );
    const resources = this.times(1, 2, () => `secret/${this.glob()}`);
    const notAction = this.chance(15) && !actions.includes('*') && !actions.includes('secrets:*');
    this.#sids += 1;
    return {
      Sid: `s${this.#sids}`,
      Effect,
      ...(notAction ? { NotAction: actions } : { Action: actions }),
      ...(this.chance(15) ? { NotResource: resources } : { Resource: this.chance(20) ? '*' : resources }),
      ...this.condition(),
    };
  }

  secretStatement(): PolicyStatement {
    const Effect = this.effect();
    const { NotResource: _one, Resource: _other, ...statement } = this.statement(Effect);
    return {
      ...statement,
      Principal: this.times(1, 2, () => this.pick(Effect === 'Deny' ? ATTACHMENTS : NARROW_ATTACHMENTS)),
    };
  }

  condition(): Pick<PolicyStatement, 'Condition'> {
    if (this.chance(50)) return {};
    const chosen = this.times(1, 2, () => this.pick(CONDITIONS));
    return {
      Condition: Object.fromEntries(
        chosen.map(({ key, operators, values }) => {
          const operator = this.pick(operators);
          const written = operator !== 'Null' && this.chance(20) ? `${operator}IfExists` : operator;
          const wanted = operator === 'Null' ? [this.pick(['true', false])] : this.times(1, 2, () => this.pick(values));
          return [written, { [key]: wanted }] as const;
        }),
      ),
    };
  }

  /** Letters, slashes and wildcards by chance, so that stars follow stars and question marks stand anywhere. */
  glob(): string {
    if (this.chance(30)) return this.pick(NAMES);
    return this.times(1, 5, () => this.pick(['a', 'b', '/', '*', '*', '?', 'ab'])).join('');
  }

  request(): Row {
    const facts: Record<string, Facts[string]> = {};
    for (const { key, facts: possible } of CONDITIONS)
      if (possible.length > 0 && (key === 'secrets:CurrentTime' || this.chance(60))) facts[key] = this.pick(possible);
    return ['none', this.pick(PRINCIPALS), this.pick(ACTIONS), `secret/${this.pick(NAMES)}`, facts];
  }
}
