import type { DatabaseCredentials, IdentityPolicy } from '@nestjs-secrets/core';

/** What a process is told as its only argument. */
export interface PolicyOrder {
  readonly server: { readonly host: string; readonly port: number; readonly database: string };
  readonly admin: DatabaseCredentials;
  /** The key file, which all share. */
  readonly keys: string;
  /** The folder of its audit log. */
  readonly audit: string;
  readonly workers: number;
}

/** Each generation lets the reader have one of these and not the other, in turns. */
export const SECRETS = ['turns/even', 'turns/odd'] as const;
export const READER = 'remote/reader';
export const OPERATOR = 'operator/admin';

export type PolicyQuestion = { readonly ask: 'change'; readonly generation: number } | { readonly ask: 'stop' };

export interface PolicyTally {
  readonly allowed: number;
  readonly denied: number;
  /** Pairs of decisions that were made in one breath. */
  readonly pairs: number;
  /** What must not have come about. */
  readonly faults: readonly string[];
}

export type PolicyMessage =
  | { readonly type: 'ready' }
  /** Committed, and where this process is the author. */
  | { readonly type: 'changed'; readonly generation: number; readonly at: number }
  /** This process decides by a generation for the first time. */
  | { readonly type: 'governed'; readonly generation: number; readonly at: number }
  | { readonly type: 'stopped'; readonly tally: PolicyTally };

/** Two statements that hold together: half of it would let the reader have both secrets, or none. */
export function turnPolicy(generation: number): IdentityPolicy {
  const [even, odd] = SECRETS;
  const [open, closed] = generation % 2 === 0 ? [even, odd] : [odd, even];
  return {
    name: 'turns',
    principals: [READER],
    document: {
      Version: '1',
      Statement: [
        { Sid: `open-${generation}`, Effect: 'Allow', Action: 'secrets:GetSecretValue', Resource: `secret/${open}` },
        { Sid: `closed-${generation}`, Effect: 'Deny', Action: 'secrets:GetSecretValue', Resource: `secret/${closed}` },
      ],
    },
  };
}
