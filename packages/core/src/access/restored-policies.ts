import { isDeepStrictEqual } from 'node:util';
import type { ValidDocument } from './policy-document.js';
import { identityContent, type LoadedPolicies, type PolicyEdit, secretContent } from './policy-records.js';

/** A policy that another store had, with its history. */
export interface RestoredPolicy {
  readonly kind: 'identity' | 'secret';
  readonly name: string;
  /** Of an identity policy. */
  readonly principals?: readonly string[];
  readonly document: ValidDocument;
  readonly updatedAt: number;
  readonly updatedBy: string;
}

/**
 * What there is to do so that a store has policies that another one had; `others` are those whose name is taken by one that says something else.
 * @throws PolicyInvalidError
 */
export function restoration(
  before: LoadedPolicies,
  policies: readonly RestoredPolicy[],
  isBuiltIn: (name: string) => boolean,
): { readonly edits: readonly PolicyEdit[]; readonly others: readonly string[] } {
  const edits: PolicyEdit[] = [];
  const others: string[] = [];
  for (const policy of policies) {
    const edit = editOf(policy, before.sequence + 1);
    const isCode = edit.kind === 'identity' && isBuiltIn(edit.name);
    const isThere = (edit.kind === 'identity' ? before.identity : before.secrets).has(edit.name);
    if (!isCode && !isThere) edits.push(edit);
    else if (isCode || !isSame(before, edit)) others.push(`the ${edit.kind} policy ${edit.name}`);
  }
  return { edits, others };
}

function isSame(before: LoadedPolicies, edit: PolicyEdit): boolean {
  if (edit.kind === 'secret')
    return isDeepStrictEqual(before.secrets.get(edit.name)?.content?.document, edit.content?.document);
  return isDeepStrictEqual(before.identity.get(edit.name)?.content?.policy, edit.content?.policy);
}

function editOf({ kind, name, ...rest }: RestoredPolicy, sequence: number): PolicyEdit {
  const record = { ...rest, sequence };
  if (kind === 'secret') return { kind, name, content: secretContent(name, record) };
  return { kind, name, content: identityContent(name, record) };
}
