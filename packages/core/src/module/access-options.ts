import type { IdentityPolicy } from '../access/policy-document.js';
import type { PolicyStoreOptions } from '../access/policy-store.js';
import type { AnomalyOptions } from '../audit/audit-anomalies.js';
import type { AuditLogOptions, CheckpointOptions } from '../audit/audit-log-options.js';

/** Who this application is to policies and in the audit log. */
export interface PrincipalOptions {
  /** Policies call it `application/<name>`: 1–192 of `A-Z a-z 0-9 / _ + = . @ : -`. */
  readonly name: string;
  /** What policies may ask about with `secrets:PrincipalAttribute/<key>`. */
  readonly attributes?: Readonly<Record<string, string>>;
}

export interface PoliciesOptions extends Pick<PolicyStoreOptions, 'enforce' | 'refreshIntervalMs' | 'maxStalenessMs'> {
  /** Policies from code, beside those in the store; nobody can change them at run time. */
  readonly builtIn?: readonly IdentityPolicy[];
}

/** The audit log of this instance: `folder`, `sinks` or both. */
export interface AuditOptions extends Partial<
  Pick<AuditLogOptions, 'key' | 'previousKeys' | 'timeLimitMs' | 'eventLimitBytes' | 'eventSource' | 'sinks' | 'origin'>
> {
  /**
   * A required sink of files in this folder, which belongs to this process alone; relative to the working directory, unless absolute. `sinks` stand
   * beside it.
   */
  readonly folder?: string;
  /** Signed checkpoints; without them nobody can tell that the end of the log was cut off. Places with `notes` are checked by `audit.verify()`. */
  readonly checkpoints?: CheckpointOptions & {
    /** The `verifierKey` of signers before this one. */
    readonly previousVerifierKeys?: readonly string[];
  };
  /** How often the use of live handles is recorded, in milliseconds; 300,000 by default. */
  readonly useCountsEveryMs?: number;
  /** What `audit.anomalies$` tells. */
  readonly anomalies?: AnomalyOptions;
}
