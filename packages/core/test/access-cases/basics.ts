import { allow, deny, type CaseGroup } from './case-table.js';

const READ = 'secrets:GetSecretValue';

/** Default deny, explicit deny, attachment, several policies and statements, secret policies beside identity policies. */
export const basics: readonly CaseGroup[] = [
  {
    title: 'everything is denied unless something allows it',
    source: 'RAM',
    identity: [{ to: ['operator/alice'], statements: [allow(READ, 'secret/a')] }],
    rows: [
      ['allow', 'operator/alice', 'GetSecretValue', 'secret/a'],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/b'],
      ['none', 'operator/alice', 'PutSecretValue', 'secret/a'],
      ['none', 'operator/bob', 'GetSecretValue', 'secret/a'],
      ['none', 'application/alice', 'GetSecretValue', 'secret/a'],
      ['none', 'remote/alice', 'GetSecretValue', 'secret/a'],
    ],
  },
  {
    title: 'no policies at all, but enforced',
    source: 'RAM',
    rows: [
      ['none', 'application/MyApp', 'GetSecretValue', 'secret/a'],
      ['none', 'rotator/postgres', 'RetireVersion', 'secret/a'],
    ],
  },
  {
    title: 'an explicit deny wins over an allow in the same policy, in either order',
    source: 'RAM',
    identity: [
      { to: ['operator/first'], statements: [deny(READ, 'secret/a'), allow('secrets:*')] },
      { to: ['operator/last'], statements: [allow('secrets:*'), deny(READ, 'secret/a')] },
    ],
    rows: [
      ['deny', 'operator/first', 'GetSecretValue', 'secret/a'],
      ['deny', 'operator/last', 'GetSecretValue', 'secret/a'],
      ['allow', 'operator/first', 'GetSecretValue', 'secret/b'],
      ['allow', 'operator/last', 'GetSecretValue', 'secret/b'],
      ['allow', 'operator/first', 'DescribeSecret', 'secret/a'],
      ['allow', 'operator/last', 'DescribeSecret', 'secret/a'],
    ],
  },
  {
    title: 'an explicit deny wins over an allow in another policy',
    source: 'RAM',
    identity: [
      { to: ['operator/*'], statements: [allow('secrets:*')] },
      { to: ['operator/trainee'], statements: [deny('secrets:Delete*')] },
      { to: ['*'], statements: [deny('secrets:DestroyKey')] },
    ],
    rows: [
      ['allow', 'operator/alice', 'DeleteSecret', 'secret/a'],
      ['deny', 'operator/trainee', 'DeleteSecret', 'secret/a'],
      ['deny', 'operator/trainee', 'DeleteSecretPolicy', 'secret/a'],
      ['deny', 'operator/trainee', 'DeletePolicy', 'policy/readers'],
      ['allow', 'operator/trainee', 'RestoreSecret', 'secret/a'],
      ['deny', 'operator/alice', 'DestroyKey', 'key/master'],
      ['deny', 'application/MyApp', 'DestroyKey', 'key/master'],
      ['none', 'application/MyApp', 'DeleteSecret', 'secret/a'],
    ],
  },
  {
    title: 'a narrow allow does not lift a broad deny',
    source: 'RAM',
    identity: [
      { to: ['operator/alice'], statements: [deny('secrets:*', 'secret/prod/*'), allow(READ, 'secret/prod/a')] },
    ],
    rows: [
      ['deny', 'operator/alice', 'GetSecretValue', 'secret/prod/a'],
      ['deny', 'operator/alice', 'GetSecretValue', 'secret/prod/b'],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/dev/a'],
    ],
  },
  {
    title: 'a deny alone allows nothing',
    source: 'RAM',
    identity: [{ to: ['operator/alice'], statements: [deny(READ, 'secret/a')] }],
    rows: [
      ['deny', 'operator/alice', 'GetSecretValue', 'secret/a'],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/b'],
      ['none', 'operator/alice', 'ListKeys', 'key/'],
    ],
  },
  {
    title: 'statements add up: what any of them allows is allowed',
    source: 'RAM',
    identity: [
      { to: ['application/MyApp'], statements: [allow(READ, 'secret/a'), allow(READ, 'secret/b')] },
      { to: ['application/*'], statements: [allow('secrets:GetRandomPassword', 'store')] },
    ],
    rows: [
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/a'],
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/b'],
      ['none', 'application/MyApp', 'GetSecretValue', 'secret/c'],
      ['allow', 'application/MyApp', 'GetRandomPassword', 'store'],
      ['allow', 'application/Other', 'GetRandomPassword', 'store'],
      ['none', 'application/Other', 'GetSecretValue', 'secret/a'],
    ],
  },
  {
    title: 'attachment by patterns of principals',
    source: 'own',
    identity: [
      { to: ['operator/team-a.*', 'remote/ci-?'], statements: [allow(READ)] },
      { to: ['rotator/postgres*'], statements: [allow(['secrets:*PendingVersion', 'secrets:RetireVersion'])] },
    ],
    rows: [
      ['allow', 'operator/team-a.alice', 'GetSecretValue', 'secret/a'],
      ['allow', 'operator/team-a.', 'GetSecretValue', 'secret/a'],
      ['none', 'operator/team-b.alice', 'GetSecretValue', 'secret/a'],
      ['none', 'operator/xteam-a.alice', 'GetSecretValue', 'secret/a'],
      ['allow', 'remote/ci-1', 'GetSecretValue', 'secret/a'],
      ['none', 'remote/ci-12', 'GetSecretValue', 'secret/a'],
      ['none', 'remote/ci-', 'GetSecretValue', 'secret/a'],
      ['allow', 'rotator/postgres-alternating', 'ApplyPendingVersion', 'secret/a'],
      ['allow', 'rotator/postgres', 'CreatePendingVersion', 'secret/a'],
      ['allow', 'rotator/postgres', 'RetireVersion', 'secret/a'],
      ['none', 'rotator/postgres', 'PromoteVersion', 'secret/a'],
      ['none', 'rotator/mysql', 'RetireVersion', 'secret/a'],
    ],
  },
  {
    title: 'the identity policy or the policy of the secret allows',
    source: 'RAM',
    identity: [
      { to: ['operator/alice'], statements: [allow(READ, 'secret/a')] },
      { to: ['operator/carol'], statements: [deny(READ, 'secret/b')] },
    ],
    secrets: {
      b: [{ Effect: 'Allow', Action: READ, Resource: '*', Principal: ['operator/bob', 'operator/carol'] }],
    },
    rows: [
      ['allow', 'operator/alice', 'GetSecretValue', 'secret/a'],
      ['none', 'operator/alice', 'GetSecretValue', 'secret/b'],
      ['none', 'operator/bob', 'GetSecretValue', 'secret/a'],
      ['allow', 'operator/bob', 'GetSecretValue', 'secret/b'],
      ['none', 'operator/bob', 'PutSecretValue', 'secret/b'],
      ['deny', 'operator/carol', 'GetSecretValue', 'secret/b'],
    ],
  },
  {
    title: 'a deny in the policy of the secret wins over every identity policy, and over its own allows',
    source: 'RAM',
    identity: [{ to: ['operator/*'], statements: [allow('secrets:*')] }],
    secrets: {
      'prod/db': [
        { Effect: 'Deny', Action: READ, Principal: 'operator/*' },
        { Effect: 'Allow', Action: READ, Principal: ['operator/alice', 'application/MyApp'] },
      ],
    },
    rows: [
      ['deny', 'operator/alice', 'GetSecretValue', 'secret/prod/db'],
      ['deny', 'operator/bob', 'GetSecretValue', 'secret/prod/db'],
      ['allow', 'operator/bob', 'DescribeSecret', 'secret/prod/db'],
      ['allow', 'operator/bob', 'GetSecretValue', 'secret/prod/db2'],
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/prod/db'],
      ['none', 'application/MyApp', 'GetSecretValue', 'secret/prod/db2'],
      ['none', 'application/MyApp', 'GetSecretValue', 'secret/prod'],
    ],
  },
  {
    title: 'everyone, as the principal of a deny',
    source: 'RAM',
    identity: [{ to: ['operator/*', 'application/*'], statements: [allow('secrets:*')] }],
    secrets: { frozen: [{ Effect: 'Deny', Action: 'secrets:*', Principal: '*' }] },
    rows: [
      ['deny', 'operator/alice', 'GetSecretValue', 'secret/frozen'],
      ['deny', 'application/MyApp', 'PutSecretValue', 'secret/frozen'],
      ['deny', 'remote/nobody', 'GetSecretValue', 'secret/frozen'],
      ['allow', 'operator/alice', 'GetSecretValue', 'secret/thawed'],
    ],
  },
  {
    title: 'principals of a secret policy, by pattern',
    source: 'RAM',
    secrets: {
      s: [
        { Effect: 'Allow', Action: READ, Principal: ['application/MyApp', 'remote/eu-*'] },
        { Effect: 'Allow', NotAction: ['secrets:Delete*', 'secrets:Set*'], Principal: 'operator/lead' },
      ],
    },
    rows: [
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/s'],
      ['none', 'application/MyApp2', 'GetSecretValue', 'secret/s'],
      ['allow', 'remote/eu-1', 'GetSecretValue', 'secret/s'],
      ['none', 'remote/us-1', 'GetSecretValue', 'secret/s'],
      ['none', 'operator/eu-1', 'GetSecretValue', 'secret/s'],
      ['allow', 'operator/lead', 'GetSecretValue', 'secret/s'],
      ['allow', 'operator/lead', 'RotateSecret', 'secret/s'],
      ['none', 'operator/lead', 'DeleteSecret', 'secret/s'],
      ['none', 'operator/lead', 'SetSecretPolicy', 'secret/s'],
      ['none', 'operator/lead', 'GetSecretValue', 'secret/t'],
    ],
  },
  {
    title: 'all instances of an application are one principal',
    source: 'own',
    identity: [{ to: ['application/MyApp'], statements: [allow(READ)] }],
    rows: [
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:InstanceId': 'i-1' }],
      ['allow', 'application/MyApp', 'GetSecretValue', 'secret/a', { 'secrets:InstanceId': 'i-2' }],
      ['none', 'application/myapp', 'GetSecretValue', 'secret/a', { 'secrets:InstanceId': 'i-1' }],
    ],
  },
];
