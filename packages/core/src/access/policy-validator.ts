import { PolicyInvalidError } from './access-errors.js';
import { ACTIONS, type ActionDescription } from './actions.js';
import { readCondition } from './condition-rules.js';
import { Glob } from './glob.js';
import { actionsOf, leavesKindOpen, principalFault, resourceFault } from './pattern-rules.js';
import { POLICY_LIMITS, type IdentityPolicy, type ValidDocument, type ValidStatement } from './policy-document.js';
import { Faults, quoted, readMembers, readObject, readText, refuseOthers } from './policy-faults.js';
import { parsePolicyText } from './policy-json.js';

/** An identity policy without faults. */
export interface ValidIdentityPolicy extends IdentityPolicy {
  readonly document: ValidDocument;
}

/** What a document is for. */
type Scope =
  | { readonly kind: 'identity'; readonly principals: readonly string[] }
  | { readonly kind: 'secret'; readonly resourceId: string };

const ALL_ACTIONS = [...ACTIONS.values()];
const SECRET_ACTIONS = ALL_ACTIONS.filter(({ resource }) => resource === 'secret');
const POLICY_NAME = /^[A-Za-z0-9_.@-]{1,128}$/;
const STATEMENT_KEYS = ['Sid', 'Effect', 'Action', 'NotAction', 'Resource', 'NotResource', 'Principal', 'Condition'];
const SID = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * Checks an identity policy; its document may be an object or its JSON text, of which only the text can show a key that is there twice.
 * @throws PolicyInvalidError with all faults
 */
export function checkIdentityPolicy(policy: {
  readonly name: unknown;
  readonly principals: unknown;
  readonly document: unknown;
}): ValidIdentityPolicy {
  const faults = new Faults();
  const name = readText(policy.name, 'name', faults) ?? '';
  if (name !== '' && !POLICY_NAME.test(name))
    faults.add('name', `${quoted(name)} is not a policy name: use 1 to 128 characters of A-Z a-z 0-9 _ . @ -`);
  if (!Array.isArray(policy.principals)) faults.add('principals', 'is not a list of patterns');
  else if (policy.principals.length > POLICY_LIMITS.principals)
    faults.add(
      'principals',
      `has ${policy.principals.length} members; at most ${POLICY_LIMITS.principals} are possible`,
    );
  const principals = faults.count > 0 ? [] : readPrincipals(policy.principals, 'principals', faults);
  const document = readDocument(policy.document, { kind: 'identity', principals }, faults);
  if (document === undefined || faults.count > 0)
    throw new PolicyInvalidError(`The policy ${quoted(name)}`, faults.found);
  return Object.freeze({ name, principals: Object.freeze(principals), document });
}

/**
 * Checks the policy of a secret, an object or its JSON text.
 * @throws PolicyInvalidError with all faults
 */
export function checkSecretPolicy(secretName: string, document: unknown): ValidDocument {
  const faults = new Faults();
  const valid = readDocument(document, { kind: 'secret', resourceId: `secret/${secretName}` }, faults);
  if (valid === undefined || faults.count > 0)
    throw new PolicyInvalidError(`The policy of the secret ${secretName}`, faults.found);
  return valid;
}

function readDocument(input: unknown, scope: Scope, faults: Faults): ValidDocument | undefined {
  const parsed = typeof input === 'string' ? parsePolicyText(input, faults) : input;
  if (typeof input === 'string' && parsed === undefined) return undefined;
  const members = readObject(parsed, '', faults);
  if (members === undefined) return undefined;
  refuseOthers(members, ['Version', 'Statement'], '', faults);
  const version = members.get('Version');
  if (version !== '1')
    faults.add(
      'Version',
      version === '2012-10-17' ? 'is IAM\'s; this is the dialect of RAM: write "1"' : 'must be "1"',
    );
  const statements = members.get('Statement');
  if (!Array.isArray(statements)) {
    faults.add('Statement', 'must be a list of statements');
    return undefined;
  }
  if (statements.length === 0) faults.add('Statement', 'is empty: a policy without statements says nothing');
  if (statements.length > POLICY_LIMITS.statements) {
    faults.add(
      'Statement',
      `has ${statements.length} statements; at most ${POLICY_LIMITS.statements} are possible. Join those that differ in an action or resource only, or make several policies`,
    );
    return undefined;
  }
  const read: ValidStatement[] = [];
  for (let index = 0; index < statements.length && !faults.isFull; index += 1) {
    const statement = readStatement(statements[index], `Statement[${index}]`, scope, faults);
    if (statement?.Sid !== undefined && read.some(({ Sid }) => Sid === statement.Sid))
      faults.add(`Statement[${index}].Sid`, `${quoted(statement.Sid)} names another statement already`);
    if (statement !== undefined) read.push(statement);
  }
  const document: ValidDocument = { Version: '1', Statement: read };
  const { length } = JSON.stringify(document);
  if (length > POLICY_LIMITS.documentCharacters)
    faults.add('', `has ${length} characters; at most ${POLICY_LIMITS.documentCharacters} are possible`);
  return freeze(document);
}

function readStatement(value: unknown, path: string, scope: Scope, faults: Faults): ValidStatement | undefined {
  const members = readObject(value, path, faults);
  if (members === undefined) return undefined;
  if (members.has('NotPrincipal')) {
    faults.add(
      `${path}.NotPrincipal`,
      'is not in this dialect: deny with a StringNotLike condition on secrets:Principal',
    );
    members.delete('NotPrincipal');
  }
  refuseOthers(members, STATEMENT_KEYS, path, faults);
  const effect = members.get('Effect');
  if (effect !== 'Allow' && effect !== 'Deny') faults.add(`${path}.Effect`, 'must be "Allow" or "Deny"');
  const sid = members.has('Sid') ? readText(members.get('Sid'), `${path}.Sid`, faults) : undefined;
  if (sid !== undefined && !SID.test(sid)) faults.add(`${path}.Sid`, 'must be 1 to 64 characters of A-Z a-z 0-9 _ -');

  const possible = scope.kind === 'secret' ? SECRET_ACTIONS : ALL_ACTIONS;
  const [actionKey, actions, governed] = readActions(members, path, possible, faults);
  const [resourceKey, resources] = readResources(members, path, scope, governed, faults);
  const principals = readStatementPrincipals(members, path, scope, faults);
  const condition = members.has('Condition')
    ? readCondition(members.get('Condition'), `${path}.Condition`, governed, faults)
    : undefined;
  if (effect === 'Allow' && !narrowsCallers(condition)) refuseAllowForEveryone(scope, principals, path, faults);
  return {
    ...(sid === undefined ? {} : { Sid: sid }),
    Effect: effect === 'Deny' ? 'Deny' : 'Allow',
    ...(actionKey === undefined ? {} : { [actionKey]: actions }),
    ...(resourceKey === undefined ? {} : { [resourceKey]: resources }),
    ...(principals === undefined ? {} : { Principal: principals }),
    ...(condition === undefined ? {} : { Condition: condition }),
  };
}

function readActions(
  members: ReadonlyMap<string, unknown>,
  path: string,
  possible: readonly ActionDescription[],
  faults: Faults,
): [key: 'Action' | 'NotAction' | undefined, patterns: string[], governed: readonly ActionDescription[]] {
  const key = eitherOf(members, 'Action', 'NotAction', path, faults);
  // Where the actions cannot be told, the rest is checked as if it were about all of them.
  if (key === undefined) return [undefined, [], possible];
  const patterns: string[] = [];
  const named = new Set<ActionDescription>();
  for (const [at, member] of readMembers(members.get(key), `${path}.${key}`, faults) ?? []) {
    const pattern = readText(member, at, faults);
    if (pattern === undefined) continue;
    const actions = actionsOf(pattern, possible);
    if (typeof actions === 'string') faults.add(at, actions);
    else for (const action of actions) named.add(action);
    patterns.push(pattern);
  }
  const governed = key === 'Action' ? [...named] : possible.filter((action) => !named.has(action));
  if (key === 'NotAction' && governed.length === 0) faults.add(`${path}.NotAction`, 'leaves no action out of itself');
  return [key, patterns, governed.length === 0 ? possible : governed];
}

function readResources(
  members: ReadonlyMap<string, unknown>,
  path: string,
  scope: Scope,
  governed: readonly ActionDescription[],
  faults: Faults,
): [key: 'Resource' | 'NotResource' | undefined, patterns: string[]] {
  if (scope.kind === 'secret' && members.has('NotResource')) {
    faults.add(`${path}.NotResource`, 'has no place in the policy of one secret: leave it out');
    return [undefined, []];
  }
  if (scope.kind === 'secret' && !members.has('Resource')) return [undefined, []];
  const key = eitherOf(members, 'Resource', 'NotResource', path, faults);
  if (key === undefined) return [undefined, []];
  const patterns: string[] = [];
  for (const [at, member] of readMembers(members.get(key), `${path}.${key}`, faults) ?? []) {
    const pattern = readText(member, at, faults);
    if (pattern === undefined) continue;
    const wrong = resourceFault(pattern, governed);
    if (wrong !== undefined) faults.add(at, wrong);
    else if (scope.kind === 'secret' && !new Glob(pattern).matches(scope.resourceId))
      faults.add(at, `${quoted(pattern)} does not match ${scope.resourceId}, and this policy governs nothing else`);
    else if (key === 'NotResource' && /^\*+$/.test(pattern)) faults.add(at, 'leaves no resource out of itself');
    patterns.push(pattern);
  }
  return [key, patterns];
}

function readStatementPrincipals(
  members: ReadonlyMap<string, unknown>,
  path: string,
  scope: Scope,
  faults: Faults,
): string[] | undefined {
  if (scope.kind === 'identity') {
    if (members.has('Principal'))
      faults.add(`${path}.Principal`, 'belongs in secret policies: an identity policy is attached to its principals');
    return undefined;
  }
  if (members.has('Principal')) return readPrincipals(members.get('Principal'), `${path}.Principal`, faults);
  faults.add(`${path}.Principal`, 'is missing: a secret policy says in each statement for whom it is');
  return undefined;
}

function readPrincipals(value: unknown, path: string, faults: Faults): string[] {
  const patterns: string[] = [];
  for (const [at, member] of readMembers(value, path, faults) ?? []) {
    const pattern = readText(member, at, faults);
    if (pattern === undefined) continue;
    const wrong = principalFault(pattern);
    if (wrong === undefined) patterns.push(pattern);
    else faults.add(at, wrong);
  }
  return patterns;
}

/** A deny for everyone is a guard rail; an allow for everyone is an open door, unless a condition says who. */
function refuseAllowForEveryone(
  scope: Scope,
  principals: readonly string[] | undefined,
  path: string,
  faults: Faults,
): void {
  const open = (scope.kind === 'identity' ? scope.principals : (principals ?? [])).find(leavesKindOpen);
  if (open === undefined) return;
  const at = scope.kind === 'identity' ? path : `${path}.Principal`;
  const why = 'allows something to callers of every kind, remote ones included';
  faults.add(at, `with ${quoted(open)} ${why}: name the kind (operator/*), or add a condition on who or from where`);
}

const NARROWING_KEY = /^secrets:(Principal|PrincipalKind|PrincipalAttribute\/.+|InstanceId|SourceIp)$/;
const NARROWING_OPERATOR = /^(StringEquals|StringEqualsIgnoreCase|StringLike|IpAddress)$/;

/** Whether a condition demands something of the caller that not every caller has. */
function narrowsCallers(condition: ValidStatement['Condition']): boolean {
  const demands = Object.entries(condition ?? {}).filter(([operator]) => NARROWING_OPERATOR.test(operator));
  return demands.some(([, keys]) =>
    Object.entries(keys).some(
      ([key, values]) =>
        NARROWING_KEY.test(key) && values.every((value) => !/^([*/?]*|0\.0\.0\.0\/0|::\/0)$/.test(String(value))),
    ),
  );
}

function eitherOf<A extends string, B extends string>(
  members: ReadonlyMap<string, unknown>,
  one: A,
  other: B,
  path: string,
  faults: Faults,
): A | B | undefined {
  if (members.has(one) && members.has(other)) faults.add(path, `has both ${one} and ${other}: choose one`);
  else if (members.has(one)) return one;
  else if (members.has(other)) return other;
  else faults.add(path, `has neither ${one} nor ${other}`);
  return undefined;
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const member of Object.values(value)) freeze(member);
    Object.freeze(value);
  }
  return value;
}
