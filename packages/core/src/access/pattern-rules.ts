import { ACTIONS, type ActionDescription } from './actions.js';
import type { ResourceType } from './access-request.js';
import { canMatch, Glob, globFault } from './glob.js';
import { lookalikeFault, quoted } from './policy-faults.js';
import { PRINCIPAL_KINDS } from './principal.js';

/** `secret/` or `application/`, and a name. */
const LONGEST_ID = 'application/'.length + 192;
const RESOURCE_CHARACTERS = /^[A-Za-z0-9/_+=.@:*?-]+$/;
const ACTION_CHARACTERS = /^[A-Za-z:*?]+$/;
const SINGLE_RESOURCES: ReadonlySet<ResourceType> = new Set(['audit', 'store']);

/** The actions that a pattern names; a text that says why it names none. */
export function actionsOf(pattern: string, possible: readonly ActionDescription[]): ActionDescription[] | string {
  const wrong = lookalikeFault(pattern) ?? globFault(pattern);
  if (wrong !== undefined) return wrong;
  if (!ACTION_CHARACTERS.test(pattern)) return `${quoted(pattern)} cannot be part of an action's name`;
  const glob = new Glob(pattern);
  const named = possible.filter(({ name }) => glob.matches(name));
  if (named.length > 0) return named;
  const meant = [...ACTIONS.keys()].find((name) => name.toLowerCase() === pattern.toLowerCase());
  if (meant !== undefined && meant !== pattern) return `${quoted(pattern)} is no action: write ${meant}`;
  return meant === undefined
    ? `${quoted(pattern)} matches no action; the table is in docs/access-control.md`
    : `${pattern} is not done to a secret, and a secret policy governs nothing else`;
}

/** Why a pattern could match nothing that the actions are asked for; undefined when it could. */
export function resourceFault(pattern: string, actions: readonly ActionDescription[]): string | undefined {
  const wrong = patternFault(pattern, 'resource');
  if (wrong !== undefined) return wrong;
  const types = [...new Set(actions.map(({ resource }) => resource))];
  const possible = types.some((type) =>
    SINGLE_RESOURCES.has(type) ? canMatch(pattern, type, undefined) : canMatch(pattern, `${type}/`, 0),
  );
  if (possible) return undefined;
  const forms = types.map((type) => (SINGLE_RESOURCES.has(type) ? type : `${type}/…`));
  return `${quoted(pattern)} can never match: what these actions are asked for is written ${forms.join(' or ')}`;
}

/** Why a pattern could match no principal; undefined when it could. */
export function principalFault(pattern: string): string | undefined {
  const wrong = patternFault(pattern, 'principal');
  if (wrong !== undefined) return wrong;
  if (PRINCIPAL_KINDS.some((kind) => canMatch(pattern, `${kind}/`, 1))) return undefined;
  const forms = PRINCIPAL_KINDS.map((kind) => `${kind}/…`).join(', ');
  return `${quoted(pattern)} can never match: principals are written ${forms}`;
}

/** Whether a pattern of principals leaves their kind open, and so takes in callers from anywhere. */
export function leavesKindOpen(pattern: string): boolean {
  return !PRINCIPAL_KINDS.some((kind) => pattern.startsWith(`${kind}/`));
}

function patternFault(pattern: string, what: string): string | undefined {
  const wrong = lookalikeFault(pattern) ?? globFault(pattern);
  if (wrong !== undefined) return wrong;
  if (!RESOURCE_CHARACTERS.test(pattern)) return `${quoted(pattern)} has a character that no ${what} has`;
  const shortest = pattern.replaceAll('*', '').length;
  return shortest > LONGEST_ID ? `is longer than any ${what}` : undefined;
}
