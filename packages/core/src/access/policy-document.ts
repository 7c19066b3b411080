import type { ActionName } from './actions.js';

/** One text, or several of which any will do. */
export type OneOrMany<T> = T | readonly T[];

/**
 * One rule of a policy, in the dialect of Alibaba Cloud RAM
 * (https://www.alibabacloud.com/help/en/ram/user-guide/policy-structure-and-syntax).
 */
export interface PolicyStatement {
  /** A name for explanations, 1–64 of `A-Z a-z 0-9 _ -`, each once in a policy. From IAM. */
  readonly Sid?: string;
  readonly Effect: 'Allow' | 'Deny';
  /** Names of actions, with `*` and `?`. Either this or `NotAction`. */
  readonly Action?: OneOrMany<ActionName | (string & {})>;
  readonly NotAction?: OneOrMany<ActionName | (string & {})>;
  /** Such as `secret/billing/*`. Either this or `NotResource`; in a secret policy it may be left out. */
  readonly Resource?: OneOrMany<string>;
  readonly NotResource?: OneOrMany<string>;
  /** In secret policies only, and there always: such as `application/MyApp`. */
  readonly Principal?: OneOrMany<string>;
  /** Operator → condition key → values. All must hold; of the values one. */
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, OneOrMany<string | number | boolean>>>>>;
}

export interface PolicyDocument {
  /** The dialect of RAM; always `'1'`. */
  readonly Version: '1';
  readonly Statement: readonly PolicyStatement[];
}

/** A document with the principals it is attached to: patterns such as `application/MyApp` or `operator/*`. */
export interface IdentityPolicy {
  /** 1–128 of `A-Z a-z 0-9 _ . @ -`. */
  readonly name: string;
  readonly principals: readonly string[];
  readonly document: PolicyDocument;
}

/** What a document may be at most; RAM takes custom policies of up to 6,144 characters. */
export const POLICY_LIMITS = {
  /** Characters of the document as JSON without blanks. */
  documentCharacters: 65_536,
  statements: 200,
  /** Members of an `Action`, `Resource`, `Principal` or list of values. */
  members: 500,
  /** Characters of one of them. */
  memberCharacters: 512,
  /** Operators in a condition, and keys under an operator. */
  conditions: 50,
  /** Patterns of principals that an identity policy is attached to. */
  principals: 100,
  /** Faults that are collected before the rest is left unread. */
  faults: 100,
} as const;

/** A document as the validator leaves it: lists everywhere, nothing shared with what was handed in, frozen. */
export interface ValidStatement {
  readonly Sid?: string;
  readonly Effect: 'Allow' | 'Deny';
  readonly Action?: readonly string[];
  readonly NotAction?: readonly string[];
  readonly Resource?: readonly string[];
  readonly NotResource?: readonly string[];
  readonly Principal?: readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, readonly (string | number | boolean)[]>>>>;
}

export interface ValidDocument {
  readonly Version: '1';
  readonly Statement: readonly ValidStatement[];
}
