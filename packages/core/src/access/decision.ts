import type { StatementOrigin } from './compiled-policy.js';

/**
 * Why. `allowed`: the statements allow it; `policies-off`: there are no policies; `explicit-deny`: the
 * statements deny it; `no-allow`: nothing allows it; `facts-needed`: it depends on something that was not looked up (`UNKNOWN`, or a
 * secret without facts): look it up and ask again; `policy-corrupt`: a policy that governs this cannot be trusted; `policies-stale`: the
 * store has not been reached for too long to know what the policies are.
 */
export type DecisionReason =
  'allowed' | 'policies-off' | 'explicit-deny' | 'no-allow' | 'facts-needed' | 'policy-corrupt' | 'policies-stale';

export interface Decision {
  readonly allowed: boolean;
  readonly reason: DecisionReason;
  /** Those that decided it: all that deny, or else all that allow; by policy and place in it. */
  readonly statements: readonly StatementOrigin[];
}

const IN_WORDS: Readonly<Record<DecisionReason, string>> = {
  allowed: 'allowed by',
  'policies-off':
    'there are no policies, under which the application itself may do everything and nobody else anything',
  'explicit-deny': 'denied by',
  'no-allow': 'no policy allows it',
  'facts-needed': 'a policy asks for something about the secret that was not looked up',
  'policy-corrupt': 'a policy that governs it cannot be trusted and must be set anew',
  'policies-stale': 'the store with the policies has not been reached for too long',
};

/** A decision in words, for messages and audit events. */
export function describeDecision({ reason, statements }: Decision): string {
  const named = statements.map(({ policy, index, sid }) => `${policy}#${sid ?? index}`).join(', ');
  return named === '' ? IN_WORDS[reason] : `${IN_WORDS[reason]} ${named}`;
}
