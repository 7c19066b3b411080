import { allow, deny, type CaseGroup } from './case-table.js';

const READ = 'secrets:GetSecretValue';
const A = 'operator/alice';

/** Actions and resources: wildcards, case, NotAction, NotResource. */
export const patterns: readonly CaseGroup[] = [
  {
    title: '* in actions stands for any run of characters, ? for one',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow(['secrets:Get*', 'secrets:?ookupEvents', 'secrets:*SecretPolicy'])] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a'],
      ['allow', A, 'GetSecretPolicy', 'secret/a'],
      ['allow', A, 'GetRandomPassword', 'store'],
      ['allow', A, 'GetPolicy', 'policy/p'],
      ['allow', A, 'LookupEvents', 'audit'],
      ['allow', A, 'SetSecretPolicy', 'secret/a'],
      ['allow', A, 'DeleteSecretPolicy', 'secret/a'],
      ['none', A, 'PutSecretValue', 'secret/a'],
      ['none', A, 'VerifyAudit', 'audit'],
      ['none', A, 'PutPolicy', 'policy/p'],
    ],
  },
  {
    title: '* alone is every action and every resource',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow('*', '*')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a/b/c'],
      ['allow', A, 'PutPolicy', 'policy/p'],
      ['allow', A, 'DestroyKey', 'key/master'],
      ['allow', A, 'VerifyAudit', 'audit'],
      ['allow', A, 'GetRandomPassword', 'store'],
    ],
  },
  {
    title: 'secrets:* is every action',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow('secrets:*', 'secret/*')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a'],
      ['allow', A, 'EmergencyRotateSecret', 'secret/a'],
      ['none', A, 'PutPolicy', 'policy/p'],
      ['none', A, 'LookupEvents', 'audit'],
    ],
  },
  {
    title: '* in resources also stands for slashes',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow(READ, 'secret/billing/*')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/billing/db'],
      ['allow', A, 'GetSecretValue', 'secret/billing/eu/db'],
      ['allow', A, 'GetSecretValue', 'secret/billing/'],
      ['none', A, 'GetSecretValue', 'secret/billing'],
      ['none', A, 'GetSecretValue', 'secret/billing2/db'],
      ['none', A, 'GetSecretValue', 'secret/Billing/db'],
      ['none', A, 'GetSecretValue', 'secret/x/billing/db'],
    ],
  },
  {
    title: '* within a resource',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow(READ, 'secret/*/db')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a/db'],
      ['allow', A, 'GetSecretValue', 'secret/a/b/db'],
      ['allow', A, 'GetSecretValue', 'secret//db'],
      // Where casbin's keyMatch takes the first * for everything that follows.
      ['none', A, 'GetSecretValue', 'secret/app/ROOT-KEY'],
      ['none', A, 'GetSecretValue', 'secret/db'],
      ['none', A, 'GetSecretValue', 'secret/a/db2'],
      ['none', A, 'GetSecretValue', 'secret/a/db/x'],
    ],
  },
  {
    title: '? in resources stands for exactly one character',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow(READ, ['secret/db-?', 'secret/??/x'])] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/db-1'],
      ['allow', A, 'GetSecretValue', 'secret/db--'],
      ['none', A, 'GetSecretValue', 'secret/db-'],
      ['none', A, 'GetSecretValue', 'secret/db-12'],
      ['allow', A, 'GetSecretValue', 'secret/eu/x'],
      ['none', A, 'GetSecretValue', 'secret/e/x'],
      ['none', A, 'GetSecretValue', 'secret/eur/x'],
    ],
  },
  {
    title: '? and * together',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow(READ, 'secret/?*-??-*')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/db-eu-1'],
      ['allow', A, 'GetSecretValue', 'secret/x-eu-'],
      ['allow', A, 'GetSecretValue', 'secret/db-eur-us-1'],
      ['none', A, 'GetSecretValue', 'secret/-eu-1'],
      ['none', A, 'GetSecretValue', 'secret/db-eur-1'],
      ['none', A, 'GetSecretValue', 'secret/db-eu'],
    ],
  },
  {
    title: 'characters with a meaning elsewhere are themselves',
    source: 'own',
    identity: [{ to: [A], statements: [allow(READ, ['secret/a.b', 'secret/x+y', 'secret/m@n=o'])] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/a.b'],
      ['none', A, 'GetSecretValue', 'secret/aXb'],
      ['allow', A, 'GetSecretValue', 'secret/x+y'],
      ['none', A, 'GetSecretValue', 'secret/xxy'],
      ['allow', A, 'GetSecretValue', 'secret/m@n=o'],
    ],
  },
  {
    title: 'a name is a label: dots do not climb',
    source: 'own',
    identity: [{ to: [A], statements: [allow(READ, 'secret/public/*'), deny(READ, 'secret/public/../private')] }],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/public/../secret'],
      ['deny', A, 'GetSecretValue', 'secret/public/../private'],
      ['none', A, 'GetSecretValue', 'secret/private'],
    ],
  },
  {
    title: 'a type of resource is not another',
    source: 'RAM',
    identity: [{ to: [A], statements: [allow('secrets:*', ['policy/readers', 'key/m*', 'audit'])] }],
    rows: [
      ['allow', A, 'PutPolicy', 'policy/readers'],
      ['none', A, 'PutPolicy', 'policy/writers'],
      ['allow', A, 'DescribeKey', 'key/master'],
      ['none', A, 'DescribeKey', 'key/other'],
      ['allow', A, 'VerifyAudit', 'audit'],
      ['none', A, 'GetRandomPassword', 'store'],
      ['none', A, 'GetSecretValue', 'secret/readers'],
      ['none', A, 'GetSecretValue', 'secret/policy/readers'],
    ],
  },
  {
    title: 'NotAction with Allow is everything but what it names, where Resource reaches',
    source: 'RAM',
    identity: [
      { to: [A], statements: [{ Effect: 'Allow', NotAction: ['secrets:Delete*', READ], Resource: 'secret/a*' }] },
    ],
    rows: [
      ['allow', A, 'DescribeSecret', 'secret/a'],
      ['allow', A, 'PutSecretValue', 'secret/ab'],
      ['none', A, 'GetSecretValue', 'secret/a'],
      ['none', A, 'DeleteSecret', 'secret/a'],
      ['none', A, 'DescribeSecret', 'secret/b'],
    ],
  },
  {
    title: 'NotAction with Allow denies nothing: another statement may allow what it names',
    source: 'IAM',
    identity: [
      {
        to: [A],
        statements: [
          { Effect: 'Allow', NotAction: 'secrets:Delete*', Resource: '*' },
          allow('secrets:DeleteSecret', 'secret/tmp/*'),
        ],
      },
    ],
    rows: [
      ['allow', A, 'DeleteSecret', 'secret/tmp/a'],
      ['none', A, 'DeleteSecret', 'secret/a'],
      ['allow', A, 'GetSecretValue', 'secret/a'],
    ],
  },
  {
    title: 'NotAction with Deny denies everything but what it names',
    source: 'IAM',
    identity: [
      {
        to: [A],
        statements: [
          allow('secrets:*'),
          { Effect: 'Deny', NotAction: ['secrets:Describe*', 'secrets:List*'], Resource: '*' },
        ],
      },
    ],
    rows: [
      ['allow', A, 'DescribeSecret', 'secret/a'],
      ['allow', A, 'ListSecrets', 'secret/'],
      ['deny', A, 'GetSecretValue', 'secret/a'],
      ['deny', A, 'DestroyKey', 'key/m'],
    ],
  },
  {
    title: 'NotResource with Allow is every resource but those',
    source: 'RAM',
    identity: [
      { to: [A], statements: [{ Effect: 'Allow', Action: READ, NotResource: ['secret/prod/*', 'secret/root'] }] },
    ],
    rows: [
      ['allow', A, 'GetSecretValue', 'secret/dev/a'],
      ['none', A, 'GetSecretValue', 'secret/prod/a'],
      ['none', A, 'GetSecretValue', 'secret/root'],
      ['allow', A, 'GetSecretValue', 'secret/root2'],
    ],
  },
  {
    title: 'NotResource with Deny leaves those alone',
    source: 'IAM',
    identity: [
      {
        to: [A],
        statements: [allow('secrets:*'), { Effect: 'Deny', Action: 'secrets:*', NotResource: 'secret/sandbox/*' }],
      },
    ],
    rows: [
      ['allow', A, 'PutSecretValue', 'secret/sandbox/a'],
      ['deny', A, 'PutSecretValue', 'secret/a'],
      ['deny', A, 'PutPolicy', 'policy/p'],
      ['deny', A, 'VerifyAudit', 'audit'],
    ],
  },
  {
    title: 'a listing is asked for by its prefix',
    source: 'own',
    identity: [{ to: [A], statements: [allow('secrets:ListSecrets', 'secret/billing/*')] }],
    rows: [
      ['allow', A, 'ListSecrets', 'secret/billing/'],
      ['allow', A, 'ListSecrets', 'secret/billing/eu/'],
      ['none', A, 'ListSecrets', 'secret/'],
      ['none', A, 'ListSecrets', 'secret/billing'],
    ],
  },
  {
    title: 'what hands out a value is one action, told apart by its operation',
    source: 'own',
    identity: [
      {
        to: ['application/MyApp'],
        statements: [
          { ...allow(READ), Condition: { StringEquals: { 'secrets:Operation': ['deliverVersion', 'getCandidates'] } } },
        ],
      },
    ],
    rows: [
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'deliverVersion' }],
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'getCandidates' }],
      ['none', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:Operation': 'getSecretValue' }],
    ],
  },
];
