import { PolicyChangedError } from './access-errors.js';
import type { AccessContext } from './access-request.js';
import type { ValidDocument } from './policy-document.js';
import type { IdentityContent, SecretContent } from './policy-records.js';
import type { ValidIdentityPolicy } from './policy-validator.js';
import type { Principal } from './principal.js';

/** Who changes a policy, and how the request came; it must be able to take the change back. */
export interface PolicyAuthor {
  readonly principal: Principal;
  readonly context: AccessContext;
}

export interface PolicyChangeOptions {
  /** Makes the change even when its author could not take it back. */
  readonly force?: boolean;
  /** Only when the policy is still the one of this sequence (see `StoredIdentityPolicy`); 0 when there must be none yet. */
  readonly ifSequence?: number;
}

export interface Written {
  /** Counts changes of policies in this store; that of the change which wrote this one. */
  readonly sequence: number;
  readonly updatedAt: number;
  readonly updatedBy: string;
}

export interface StoredIdentityPolicy extends ValidIdentityPolicy, Written {}

export interface StoredSecretPolicy extends Written {
  readonly secretName: string;
  readonly document: ValidDocument;
}

/** When, by whom and in which change something was written. */
export function stampOf(content: IdentityContent | SecretContent | undefined): Written {
  if (content === undefined) throw new TypeError('A policy that was just written has no content.');
  const { sequence, updatedAt, updatedBy } = content;
  return { sequence, updatedAt, updatedBy };
}

/** @throws PolicyChangedError */
export function checkSequence(
  what: string,
  found: { readonly content: Written | undefined } | undefined,
  { ifSequence }: PolicyChangeOptions,
): void {
  // One that cannot be read has no sequence that anybody could have seen.
  const sequence = found === undefined ? 0 : found.content?.sequence;
  if (ifSequence !== undefined && sequence !== ifSequence) throw new PolicyChangedError(what);
}
