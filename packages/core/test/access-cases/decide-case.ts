import {
  checkIdentityPolicy,
  checkSecretPolicy,
  principalOf,
  secretResource,
  type AccessContext,
  type ActionName,
  type Decision,
  type PolicyStatement,
  type Principal,
  type PrincipalKind,
  type Resource,
} from '@nestjs-secrets/core';
import { compileIdentityPolicy, compileStatements } from '../../src/access/compiled-policy.js';
import { PolicySet } from '../../src/access/policy-set.js';
import { NOT_LOOKED_UP, type CaseGroup, type Expected, type Facts, type Row } from './case-table.js';

export const NOON = Date.parse('2026-06-15T12:00:00Z');

type Policies = Pick<CaseGroup, 'identity' | 'secrets'>;

/** The policies of a case, through validation and compilation as everywhere. */
export function policySetOf({ identity = [], secrets = {} }: Policies): PolicySet {
  const named = identity.map(({ to, statements }, index) =>
    checkIdentityPolicy({ name: `p${index}`, principals: to, document: documentOf(statements) }),
  );
  return new PolicySet({
    identity: named.map((policy) => compileIdentityPolicy(policy)),
    secrets: new Map(
      Object.entries(secrets).map(([name, statements]) => {
        const document = checkSecretPolicy(name, documentOf(statements));
        return [`secret/${name}`, compileStatements(`secret/${name}`, document)] as const;
      }),
    ),
  });
}

export function decideRow(policies: PolicySet, row: Row): Decision {
  const { principal, action, resource, context } = requestOf(row);
  return policies.decide(principal, action, resource, context);
}

export function expectedOf({ reason }: Decision): Expected {
  if (reason === 'allowed') return 'allow';
  if (reason === 'explicit-deny') return 'deny';
  return reason === 'facts-needed' ? 'facts' : 'none';
}

export function requestOf([, who, action, what, facts = {}]: Row): {
  principal: Principal;
  action: ActionName;
  resource: Resource;
  context: AccessContext;
} {
  const slash = who.indexOf('/');
  const instanceId = text(facts, 'secrets:InstanceId');
  const principal = principalOf(who.slice(0, slash) as PrincipalKind, who.slice(slash + 1), {
    attributes: family(facts, 'secrets:PrincipalAttribute/'),
    ...(instanceId === undefined ? {} : { instanceId }),
  });
  return {
    principal,
    action: `secrets:${action}` as ActionName,
    resource: resourceOf(what, facts),
    context: contextOf(facts),
  };
}

function documentOf(Statement: readonly PolicyStatement[]): unknown {
  return { Version: '1', Statement };
}

function resourceOf(what: string, facts: Facts): Resource {
  if (!what.startsWith('secret/') || NOT_LOOKED_UP in facts) return { id: what };
  const secretType = text(facts, 'secrets:SecretType');
  return secretResource(what.slice('secret/'.length), {
    tags: family(facts, 'secrets:ResourceTag/'),
    ...(secretType === undefined ? {} : { secretType }),
  });
}

function contextOf(facts: Facts): AccessContext {
  const time = text(facts, 'secrets:CurrentTime') ?? text(facts, 'secrets:EpochTime');
  const requestTags = family(facts, 'secrets:RequestTag/');
  const given: readonly (readonly [string, unknown])[] = [
    ['sourceAddress', facts['secrets:SourceIp']],
    ['userAgent', facts['secrets:UserAgent']],
    ['secureTransport', facts['secrets:SecureTransport']],
    ['mfaPresent', facts['secrets:MFAPresent']],
    ['operation', facts['secrets:Operation']],
    ['stage', facts['secrets:Stage']],
    ['versionId', facts['secrets:VersionId']],
    ['recoveryWindowDays', facts['secrets:RecoveryWindowDays']],
    ['tagKeys', facts['secrets:TagKeys']],
    ['requestTags', Object.keys(requestTags).length > 0 ? requestTags : undefined],
  ];
  return {
    time: time === undefined ? NOON : Date.parse(time),
    ...Object.fromEntries(given.filter(([, value]) => value !== undefined)),
  };
}

function text(facts: Facts, key: string): string | undefined {
  const fact = facts[key];
  return typeof fact === 'string' ? fact : undefined;
}

function family(facts: Facts, stem: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(facts).flatMap(([key, fact]) =>
      key.startsWith(stem) ? [[key.slice(stem.length), String(fact)] as const] : [],
    ),
  );
}
