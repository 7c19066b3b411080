import { ACTIONS, type ActionName } from './actions.js';
import type { AccessRequest } from './condition-keys.js';
import { compileCondition, type CompiledCondition, type Truth } from './conditions.js';
import { Glob } from './glob.js';
import type { ValidDocument, ValidStatement } from './policy-document.js';
import type { ValidIdentityPolicy } from './policy-validator.js';

/** Where a statement stands. */
export interface StatementOrigin {
  /** `policy/<name>`, or `secret/<name>` for the policy of that secret. */
  readonly policy: string;
  /** From 0. */
  readonly index: number;
  readonly sid: string | undefined;
  readonly effect: 'Allow' | 'Deny';
}

/** A statement, ready to be matched. */
export interface CompiledStatement {
  readonly origin: StatementOrigin;
  readonly denies: boolean;
  /** Every action it covers, wildcards and `NotAction` worked out: there are no others. */
  readonly actions: ReadonlySet<ActionName>;
  /** Patterns of resources that it covers; of those that it leaves out with `allBut`. */
  readonly resources: readonly Glob[];
  readonly allBut: boolean;
  /** Patterns of principals; undefined where the attachment of the policy says it. */
  readonly principals: readonly Glob[] | undefined;
  readonly conditions: readonly CompiledCondition[];
}

export interface CompiledIdentityPolicy {
  readonly name: string;
  readonly principals: readonly Glob[];
  readonly statements: readonly CompiledStatement[];
}

const EVERYTHING = [new Glob('*')];

export function compileIdentityPolicy({ name, principals, document }: ValidIdentityPolicy): CompiledIdentityPolicy {
  return {
    name,
    principals: principals.map((pattern) => new Glob(pattern)),
    statements: compileStatements(`policy/${name}`, document),
  };
}

export function compileStatements(policy: string, document: ValidDocument): CompiledStatement[] {
  return document.Statement.map((statement, index) => compileStatement(policy, statement, index));
}

function compileStatement(policy: string, statement: ValidStatement, index: number): CompiledStatement {
  const { Sid: sid, Effect: effect, Action, NotAction = [], Resource, NotResource, Principal, Condition } = statement;
  const named = (Action ?? NotAction).map((pattern) => new Glob(pattern));
  const covers = (name: string): boolean => named.some((glob) => glob.matches(name)) === (Action !== undefined);
  const patterns = Resource ?? NotResource;
  return {
    origin: { policy, index, sid, effect },
    denies: effect === 'Deny',
    actions: new Set([...ACTIONS.values()].map(({ name }) => name).filter(covers)),
    resources: patterns?.map((pattern) => new Glob(pattern)) ?? EVERYTHING,
    allBut: NotResource !== undefined,
    principals: Principal?.map((pattern) => new Glob(pattern)),
    conditions: Object.entries(Condition ?? {}).flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, values]) => compileCondition(operator, key, values)),
    ),
  };
}

export function coversResource({ resources, allBut }: CompiledStatement, resourceId: string): boolean {
  return resources.some((glob) => glob.matches(resourceId)) !== allBut;
}

export function coversPrincipal({ principals }: CompiledStatement, principalId: string): boolean {
  return principals === undefined || principals.some((glob) => glob.matches(principalId));
}

/** Whether all conditions hold. One that does not settles it, whatever is unknown beside it. */
export function conditionsHold({ conditions }: CompiledStatement, request: AccessRequest): Truth {
  let all: Truth = 'yes';
  for (const condition of conditions) {
    const one = condition.test(request);
    if (one === 'no') return 'no';
    if (one === 'unknown') all = 'unknown';
  }
  return all;
}
