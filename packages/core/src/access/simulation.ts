import type { AccessContext, Resource } from './access-request.js';
import type { ActionName } from './actions.js';
import {
  type CompiledStatement,
  conditionsHold,
  coversPrincipal,
  coversResource,
  type StatementOrigin,
} from './compiled-policy.js';
import { AccessRequest } from './condition-keys.js';
import type { CompiledCondition } from './conditions.js';
import type { Decision, DecisionReason } from './decision.js';
import type { PolicySet } from './policy-set.js';
import type { Principal } from './principal.js';

/** A condition that keeps a statement from matching. */
export interface UnmetCondition {
  readonly operator: string;
  readonly key: string;
  readonly wanted: readonly unknown[];
  /** Undefined when the key is absent. */
  readonly found: unknown;
}

/**
 * One thing that would change a decision, as far as it goes: a decision that rests on several denies or allows changes when all of them do.
 *
 * `lift-deny`: the statement denies. `meet-conditions`: the statement would allow, were it not for its conditions. `widen-actions`,
 * `widen-resources`, `widen-principals`: it would allow, did it cover this one too. `add-allow`: nothing comes near. `drop-allow`: the
 * statement allows. `repair-policy`, `reach-store`, `look-up-facts`, `set-policies`: nothing is decided before.
 */
export interface WhatIf {
  readonly change:
    | 'lift-deny'
    | 'meet-conditions'
    | 'widen-actions'
    | 'widen-resources'
    | 'widen-principals'
    | 'add-allow'
    | 'drop-allow'
    | 'repair-policy'
    | 'reach-store'
    | 'look-up-facts'
    | 'set-policies';
  readonly statement: StatementOrigin | undefined;
  readonly conditions: readonly UnmetCondition[];
}

export interface Simulation extends Decision {
  readonly principal: string;
  readonly action: ActionName;
  readonly resource: string;
  /** Every statement whose principal, action, resource and conditions fit, allows beside denies. */
  readonly matched: readonly StatementOrigin[];
  readonly wouldChange: readonly WhatIf[];
}

/** A decision with its reasons and with what would change it. For people and tests: it looks at every statement. */
export function simulate(
  policies: PolicySet,
  decision: Decision,
  request: { principal: Principal; action: ActionName; resource: Resource; context: AccessContext },
): Simulation {
  const { principal, action, resource, context } = request;
  const asked = new AccessRequest(principal, action, resource, context);
  const fits = [...policies.statementsOf(principal), ...(policies.parts.secrets.get(resource.id) ?? [])].map(
    (statement) => fit(statement, asked),
  );
  const matched = fits.filter(({ misses }) => misses.length === 0).map(({ statement }) => statement);
  return {
    ...decision,
    principal: principal.id,
    action,
    resource: resource.id,
    matched: matched.map(({ origin }) => origin),
    wouldChange: whatIf(decision, fits),
  };
}

type Miss = 'principals' | 'actions' | 'resources' | 'conditions';

interface Fit {
  readonly statement: CompiledStatement;
  readonly misses: readonly Miss[];
  readonly unmet: readonly UnmetCondition[];
}

function fit(statement: CompiledStatement, asked: AccessRequest): Fit {
  const misses: Miss[] = [];
  if (!coversPrincipal(statement, asked.principal.id)) misses.push('principals');
  if (!statement.actions.has(asked.action as ActionName)) misses.push('actions');
  if (!coversResource(statement, asked.resource.id)) misses.push('resources');
  if (conditionsHold(statement, asked) !== 'yes') misses.push('conditions');
  const unmet = statement.conditions.filter((condition) => condition.test(asked) !== 'yes');
  return { statement, misses, unmet: unmet.map((condition) => unmetCondition(condition, asked)) };
}

function unmetCondition({ operator, key, values }: CompiledCondition, asked: AccessRequest): UnmetCondition {
  const fact = key.key.read(asked, key.member);
  const found = key.key.kind === 'address' ? asked.context.sourceAddress : fact;
  return { operator, key: key.key.name.replace('<key>', () => key.member), wanted: values, found };
}

const NEAR_ALLOWS = [
  ['conditions', 'meet-conditions'],
  ['resources', 'widen-resources'],
  ['actions', 'widen-actions'],
  ['principals', 'widen-principals'],
] as const;

const UNDECIDED: Readonly<Partial<Record<DecisionReason, WhatIf['change']>>> = {
  'policies-off': 'set-policies',
  'policy-corrupt': 'repair-policy',
  'policies-stale': 'reach-store',
  'facts-needed': 'look-up-facts',
};

function whatIf({ allowed, reason }: Decision, fits: readonly Fit[]): WhatIf[] {
  const alone = (change: WhatIf['change']): WhatIf => ({ change, statement: undefined, conditions: [] });
  const about = (change: WhatIf['change'], { statement, unmet }: Fit): WhatIf => ({
    change,
    statement: statement.origin,
    conditions: unmet,
  });
  const undecided = UNDECIDED[reason];
  if (undecided !== undefined) return [alone(undecided)];
  const matching = fits.filter(({ misses }) => misses.length === 0);
  const allows = matching.filter(({ statement }) => !statement.denies);
  if (allowed) return allows.map((one) => about('drop-allow', one));
  const lifts = matching.filter(({ statement }) => statement.denies).map((one) => about('lift-deny', one));
  if (allows.length > 0) return lifts;
  const near = NEAR_ALLOWS.flatMap(([miss, change]) =>
    fits
      .filter(({ statement, misses }) => !statement.denies && misses.length === 1 && misses[0] === miss)
      .map((one) => about(change, one)),
  );
  return [...lifts, ...(near.length > 0 ? near : [alone('add-allow')])];
}
