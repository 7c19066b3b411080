import type { PolicyStatement } from '@nestjs-secrets/core';

/** Where the expected behaviour is documented: RAM's pages, IAM's where RAM says nothing, or this library's own where both do not apply. */
export type Source = 'RAM' | 'IAM' | 'own';

/** `allow`; `none`: nothing allows; `deny`: something denies; `facts`: it cannot be told before more is looked up. */
export type Expected = 'allow' | 'none' | 'deny' | 'facts';

/** What the request comes with, by condition keys; a key that is missing is absent from the request. */
export type Facts = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** Expected, who, does what (without `secrets:`), to what, with which facts. */
export type Row = readonly [expected: Expected, principal: string, action: string, resource: string, facts?: Facts];

/** Policies and what they decide. */
export interface CaseGroup {
  readonly title: string;
  readonly source: Source;
  /** Identity policies: whom each is attached to, and its statements. */
  readonly identity?: readonly { readonly to: readonly string[]; readonly statements: readonly PolicyStatement[] }[];
  /** Policies of secrets, by the secret's name. */
  readonly secrets?: Readonly<Record<string, readonly PolicyStatement[]>>;
  readonly rows: readonly Row[];
}

/** One condition, and under which facts it holds. */
export interface ConditionCase {
  readonly source: Source;
  readonly operator: string;
  readonly key: string;
  readonly values: string | number | boolean | readonly (string | number | boolean)[];
  readonly holds: readonly (string | number | boolean | readonly string[] | typeof ABSENT)[];
  readonly fails: readonly (string | number | boolean | readonly string[] | typeof ABSENT)[];
}

/** The request does not have the key. */
export const ABSENT = null;

/** A secret that was not looked up; without it, a secret comes with the facts of the row. */
export const NOT_LOOKED_UP = 'not looked up';

export const allow = (
  Action: string | readonly string[],
  Resource: string | readonly string[] = '*',
): PolicyStatement => ({
  Effect: 'Allow',
  Action,
  Resource,
});

export const deny = (
  Action: string | readonly string[],
  Resource: string | readonly string[] = '*',
): PolicyStatement => ({
  Effect: 'Deny',
  Action,
  Resource,
});
