import type { AccessContext, Resource } from '../access/access-request.js';
import { OPERATIONS, type ActionName, type OperationName } from '../access/actions.js';
import type { Decision } from '../access/decision.js';
import type { Principal } from '../access/principal.js';
import { Caller } from './caller.js';
import type { Asked, Door } from './door.js';

/**
 * Decides for handlers of the application's own, as the manager does for itself: what policies ask about a secret is looked up, and a denial is an event.
 * What is allowed is recorded by the operation that follows.
 */
export async function decideForHandler(
  door: Door,
  principal: Principal,
  action: ActionName,
  resource: Resource,
  context: AccessContext,
): Promise<Decision> {
  const { time: _decidedNow, operation: _ownOperation, stage, ...rest } = context;
  const operation = operationOf(action);
  const caller = new Caller(principal, rest);
  // Who reads a value and says no more means the current one.
  const stages = typeof stage === 'string' ? [stage] : operation === 'getSecretValue' ? ['current'] : undefined;
  const asked: Asked = { operation, resource, stages, parameters: { isHandler: true } };
  const decision = await door.decide(caller, asked);
  // Denied it is, whether or not the log can take it.
  if (!decision.allowed) await door.recordDenial(caller, asked, decision).catch(() => undefined);
  return decision;
}

/** The first row of the table that has the action. */
function operationOf(action: ActionName): OperationName {
  const names = Object.keys(OPERATIONS) as OperationName[];
  const found = names.find((name) => OPERATIONS[name].action === action);
  if (found === undefined) throw new TypeError(`There is no action ${action}.`);
  return found;
}
