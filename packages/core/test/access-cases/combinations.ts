import { allow, deny, NOT_LOOKED_UP, type CaseGroup } from './case-table.js';

const READ = 'secrets:GetSecretValue';
const A = 'operator/alice';
const ENV = 'secrets:ResourceTag/env';
const STAGE = 'secrets:Stage';

/** Conditions together, conditions of denies, and facts that were not looked up. */
export const combinations: readonly CaseGroup[] = [
  {
    title: 'all keys of an operator must hold',
    source: 'RAM',
    identity: [
      {
        to: [A],
        statements: [
          { ...allow(READ), Condition: { StringEquals: { [ENV]: 'dev', [STAGE]: ['current', 'previous'] } } },
        ],
      },
    ],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a', { [ENV]: 'dev', [STAGE]: 'current' }],
      ['allow', A, 'GetSecretValue', 'secret/a', { [ENV]: 'dev', [STAGE]: 'previous' }],
      ['none', A, 'GetSecretValue', 'secret/a', { [ENV]: 'dev', [STAGE]: 'pending' }],
      ['none', A, 'GetSecretValue', 'secret/a', { [ENV]: 'prod', [STAGE]: 'current' }],
      ['none', A, 'GetSecretValue', 'secret/a', { [STAGE]: 'current' }],
      ['none', A, 'GetSecretValue', 'secret/a', { [ENV]: 'dev' }],
    ],
  },
  {
    title: 'all operators must hold',
    source: 'RAM',
    identity: [
      {
        to: [A],
        statements: [
          {
            ...allow(READ),
            Condition: {
              IpAddress: { 'secrets:SourceIp': '10.0.0.0/8' },
              Bool: { 'secrets:MFAPresent': 'true' },
              StringNotEquals: { [ENV]: 'prod' },
            },
          },
        ],
      },
    ],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a', { 'secrets:SourceIp': '10.0.0.1', 'secrets:MFAPresent': true }],
      [
        'allow',
        A,
        'GetSecretValue',
        'secret/a',
        { 'secrets:SourceIp': '10.0.0.1', 'secrets:MFAPresent': true, [ENV]: 'dev' },
      ],
      [
        'none',
        A,
        'GetSecretValue',
        'secret/a',
        { 'secrets:SourceIp': '10.0.0.1', 'secrets:MFAPresent': true, [ENV]: 'prod' },
      ],
      ['none', A, 'GetSecretValue', 'secret/a', { 'secrets:SourceIp': '10.0.0.1', 'secrets:MFAPresent': false }],
      ['none', A, 'GetSecretValue', 'secret/a', { 'secrets:SourceIp': '11.0.0.1', 'secrets:MFAPresent': true }],
      ['none', A, 'GetSecretValue', 'secret/a', { 'secrets:MFAPresent': true }],
    ],
  },
  {
    title: 'a deny applies only where its condition holds',
    source: 'RAM',
    identity: [
      { to: [A], statements: [allow('secrets:*'), { ...deny(READ), Condition: { StringEquals: { [ENV]: 'prod' } } }] },
    ],
    rows: [
      ['deny', A, 'GetSecretValue', 'secret/a', { [ENV]: 'prod' }],
      ['allow', A, 'GetSecretValue', 'secret/a', { [ENV]: 'dev' }],
      ['allow', A, 'GetSecretValue', 'secret/a'],
      ['allow', A, 'PutSecretValue', 'secret/a', { [ENV]: 'prod' }],
    ],
  },
  {
    title: 'a negative deny applies where its key is absent',
    source: 'IAM',
    identity: [
      {
        to: [A],
        statements: [
          allow('secrets:*'),
          { ...deny('*'), Condition: { NotIpAddress: { 'secrets:SourceIp': '10.0.0.0/8' } } },
        ],
      },
    ],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a', { 'secrets:SourceIp': '10.9.9.9' }],
      ['deny', A, 'GetSecretValue', 'secret/a', { 'secrets:SourceIp': '8.8.8.8' }],
      ['deny', A, 'GetSecretValue', 'secret/a'],
    ],
  },
  {
    title: 'a deny on an absent key: IfExists applies, the positive operator does not, Null asks for nothing else',
    source: 'IAM',
    identity: [
      {
        to: ['operator/a'],
        statements: [
          allow('secrets:*'),
          { ...deny('*'), Condition: { BoolIfExists: { 'secrets:MFAPresent': false } } },
        ],
      },
      {
        to: ['operator/b'],
        statements: [allow('secrets:*'), { ...deny('*'), Condition: { Bool: { 'secrets:MFAPresent': false } } }],
      },
      {
        to: ['operator/c'],
        statements: [allow('secrets:*'), { ...deny('*'), Condition: { Null: { 'secrets:MFAPresent': true } } }],
      },
    ],
    rows: [
      ['deny', 'operator/a', 'GetSecretValue', 'secret/a', { 'secrets:MFAPresent': false }],
      // With IfExists an absent key makes the condition true, and so the deny apply.
      ['deny', 'operator/a', 'GetSecretValue', 'secret/a'],
      ['allow', 'operator/a', 'GetSecretValue', 'secret/a', { 'secrets:MFAPresent': true }],
      ['deny', 'operator/b', 'GetSecretValue', 'secret/a', { 'secrets:MFAPresent': false }],
      ['allow', 'operator/b', 'GetSecretValue', 'secret/a'],
      ['deny', 'operator/c', 'GetSecretValue', 'secret/a'],
      ['allow', 'operator/c', 'GetSecretValue', 'secret/a', { 'secrets:MFAPresent': false }],
    ],
  },
  {
    title: 'conditions of a secret policy',
    source: 'RAM',
    secrets: {
      a: [
        {
          Effect: 'Allow',
          Action: READ,
          Principal: '*',
          Condition: { StringEquals: { 'secrets:PrincipalAttribute/team': 'billing' } },
        },
        {
          Effect: 'Deny',
          Action: READ,
          Principal: '*',
          Condition: { StringEquals: { 'secrets:PrincipalKind': 'remote' } },
        },
      ],
    },
    rows: [
      ['allow', 'operator/alice', 'GetSecretValue', 'secret/a', { 'secrets:PrincipalAttribute/team': 'billing' }],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/a', { 'secrets:PrincipalAttribute/team': 'ops' }],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/a'],
      ['deny', 'remote/alice', 'GetSecretValue', 'secret/a', { 'secrets:PrincipalAttribute/team': 'billing' }],
      ['allow', 'application/x', 'GetSecretValue', 'secret/a', { 'secrets:PrincipalAttribute/team': 'billing' }],
    ],
  },
  {
    title: 'the principal as a condition key',
    source: 'IAM',
    identity: [
      {
        to: ['operator/*'],
        statements: [
          allow('secrets:*'),
          {
            ...deny('secrets:DeleteSecret'),
            Condition: { StringNotLike: { 'secrets:Principal': ['operator/admin-*', 'application/*'] } },
          },
        ],
      },
    ],
    rows: [
      ['allow', 'operator/admin-1', 'DeleteSecret', 'secret/a'],
      ['deny', 'operator/alice', 'DeleteSecret', 'secret/a'],
      ['allow', 'operator/alice', 'GetSecretValue', 'secret/a'],
    ],
  },
  {
    title: 'tags that a request would set',
    source: 'IAM',
    identity: [
      {
        to: [A],
        statements: [
          {
            ...allow(['secrets:CreateSecret', 'secrets:TagResource']),
            Condition: {
              StringEquals: { 'secrets:RequestTag/team': 'billing' },
              'ForAllValues:StringEquals': { 'secrets:TagKeys': ['team', 'env'] },
            },
          },
        ],
      },
    ],
    rows: [
      ['allow', A, 'CreateSecret', 'secret/a', { 'secrets:RequestTag/team': 'billing' }],
      [
        'allow',
        A,
        'CreateSecret',
        'secret/a',
        { 'secrets:RequestTag/team': 'billing', 'secrets:RequestTag/env': 'dev' },
      ],
      [
        'none',
        A,
        'CreateSecret',
        'secret/a',
        { 'secrets:RequestTag/team': 'billing', 'secrets:RequestTag/owner': 'x' },
      ],
      ['none', A, 'CreateSecret', 'secret/a', { 'secrets:RequestTag/team': 'ops' }],
      ['none', A, 'CreateSecret', 'secret/a'],
      ['allow', A, 'TagResource', 'secret/a', { 'secrets:RequestTag/team': 'billing' }],
    ],
  },
  {
    title: 'a window of time, made of two conditions',
    source: 'RAM',
    identity: [
      {
        to: [A],
        statements: [
          {
            ...allow('secrets:EmergencyRotateSecret'),
            Condition: {
              DateGreaterThanEquals: { 'secrets:CurrentTime': '2026-03-01T08:00:00Z' },
              DateLessThan: { 'secrets:CurrentTime': '2026-03-01T18:00:00Z' },
            },
          },
        ],
      },
    ],
    rows: [
      ['none', A, 'EmergencyRotateSecret', 'secret/a', { 'secrets:CurrentTime': '2026-03-01T07:59:59Z' }],
      ['allow', A, 'EmergencyRotateSecret', 'secret/a', { 'secrets:CurrentTime': '2026-03-01T08:00:00Z' }],
      ['allow', A, 'EmergencyRotateSecret', 'secret/a', { 'secrets:CurrentTime': '2026-03-01T17:59:59Z' }],
      ['none', A, 'EmergencyRotateSecret', 'secret/a', { 'secrets:CurrentTime': '2026-03-01T18:00:00Z' }],
      ['none', A, 'RotateSecret', 'secret/a', { 'secrets:CurrentTime': '2026-03-01T12:00:00Z' }],
    ],
  },
  {
    title: 'a secret that was not looked up decides nothing it could change',
    source: 'own',
    identity: [
      { to: ['operator/plain'], statements: [allow(READ, 'secret/a')] },
      { to: ['operator/tagged'], statements: [{ ...allow(READ), Condition: { StringEquals: { [ENV]: 'dev' } } }] },
      {
        to: ['operator/guarded'],
        statements: [allow(READ), { ...deny(READ), Condition: { StringEquals: { [ENV]: 'prod' } } }],
      },
      {
        to: ['operator/barred'],
        statements: [deny(READ), { ...allow(READ), Condition: { StringEquals: { [ENV]: 'dev' } } }],
      },
      {
        to: ['operator/either'],
        statements: [allow(READ), { ...allow(READ), Condition: { StringEquals: { [ENV]: 'dev' } } }],
      },
      {
        to: ['operator/elsewhere'],
        statements: [
          { ...allow(READ), Condition: { StringEquals: { [ENV]: 'dev' }, Bool: { 'secrets:MFAPresent': true } } },
        ],
      },
    ],
    rows: [
      ['allow', 'operator/plain', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      ['none', 'operator/plain', 'GetSecretValue', 'secret/b', { [NOT_LOOKED_UP]: true }],
      ['facts', 'operator/tagged', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      ['facts', 'operator/guarded', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      ['deny', 'operator/barred', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      ['allow', 'operator/either', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      ['none', 'operator/elsewhere', 'GetSecretValue', 'secret/a', { [NOT_LOOKED_UP]: true }],
      [
        'facts',
        'operator/elsewhere',
        'GetSecretValue',
        'secret/a',
        { [NOT_LOOKED_UP]: true, 'secrets:MFAPresent': true },
      ],
    ],
  },
  {
    title: 'every door to a value closes with one deny',
    source: 'own',
    identity: [{ to: ['application/MyApp'], statements: [allow('secrets:*'), deny(READ, 'secret/a')] }],
    rows: [
      ['deny', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'getSecretValue' }],
      ['deny', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'deliverVersion' }],
      ['deny', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'getCandidates' }],
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/b', { 'secrets:Operation': 'getCandidates' }],
    ],
  },
];
