/** A fact that was not looked up: where a policy needs it, the decision says `facts-needed` instead of guessing. */
export const UNKNOWN: unique symbol = Symbol.for('@nestjs-secrets/unknown-fact');
export type Unknown = typeof UNKNOWN;

/** How a call reached us; carried explicitly with the principal. */
export interface RequestContext {
  /** When, in milliseconds since the epoch. */
  readonly time: number;
  /** The address of the caller, IPv4 or IPv6, without a port. Missing inside the process. */
  readonly sourceAddress?: string;
  readonly userAgent?: string;
  readonly requestId?: string;
  /** Whether the call came over TLS. */
  readonly secureTransport?: boolean;
  /** Whether the caller proved a second factor. */
  readonly mfaPresent?: boolean;
}

/** What the operation itself adds for conditions. */
export interface OperationFacts {
  /** The row of `OPERATIONS` that asks; several share an action. */
  readonly operation?: string;
  /** The stage asked for. An operation on several stages is decided for each; `UNKNOWN` when a version is named and its stages were not looked up. */
  readonly stage?: string | Unknown;
  readonly versionId?: string;
  /** Tags that the request would set. */
  readonly requestTags?: Readonly<Record<string, string>>;
  /** Keys of the tags that the request would set or take away; those of `requestTags` when missing. */
  readonly tagKeys?: readonly string[];
  /** Days until a deleted secret is gone. */
  readonly recoveryWindowDays?: number;
}

export type AccessContext = RequestContext & OperationFacts;

/** What conditions may ask about a secret. */
export interface SecretFacts {
  readonly tags: Readonly<Record<string, string>>;
  readonly secretType?: string;
}

/** What is asked for. Make one with `secretResource` and its like. */
export interface Resource {
  /** What policies call it, such as `secret/billing/MyDbCreds`. */
  readonly id: string;
  /** Missing for a secret that was not looked up (see `facts-needed`) and for whatever is not a secret. */
  readonly facts?: SecretFacts;
}

/** What an action can be asked for; `audit` and `store` have one resource each, of that very id. */
export type ResourceType = 'secret' | 'policy' | 'key' | 'audit' | 'store';

/** A secret; with a prefix in place of the name, a listing of those under it. For one that does not exist yet: the facts it would have. */
export function secretResource(name: string, facts?: SecretFacts): Resource {
  return facts === undefined ? { id: `secret/${name}` } : { id: `secret/${name}`, facts };
}

/** An identity policy; with a prefix in place of the name, a listing of those under it. */
export function policyResource(name: string): Resource {
  return { id: `policy/${name}` };
}

/** A customer master key; with the empty string, a listing of them. */
export function keyResource(keyId: string): Resource {
  return { id: `key/${keyId}` };
}

export const AUDIT_RESOURCE: Resource = { id: 'audit' };
export const STORE_RESOURCE: Resource = { id: 'store' };
