import type { AuditSinkHealth } from '../audit/sink-lane.js';
import type { SecretHealth } from '../client/secret-handles.js';
import type { KeyProviderStatus } from '../encryption/key-provider.js';
import type { IntegrityFinding } from '../integrity/integrity-findings.js';
import type { RotationTrouble } from '../rotation/rotation-troubles.js';
import type { SecretsRuntime } from './secrets-runtime.js';

/** The result shape that `@nestjs/terminus` takes from any indicator. */
export interface SecretsHealthResult {
  readonly [key: string]: {
    readonly status: 'up' | 'down';
    readonly degraded: boolean;
    readonly secrets: Readonly<Record<string, SecretHealth>>;
    /** What is wrong with rotations that take place in this instance, by the name of the secret; empty when all is well. */
    readonly rotations: Readonly<Record<string, RotationTrouble>>;
    /** The latest thing found to be wrong with what the store holds; missing while nothing was. */
    readonly integrity?: IntegrityFinding;
    /** The sinks of the audit log; none where nothing is audited. */
    readonly audit: readonly AuditSinkHealth[];
    /** Whether the service with the master keys answers; always `available` where they are in the process. */
    readonly keys: KeyProviderStatus;
  };
}

/**
 * Health of the secrets this application uses. `up` as long as every value may be used, `degraded: true` when some of them could not be
 * refreshed, when the store has not taken a heartbeat for the length of a lease, when the store was tampered with, when the service with the master keys is away, when a required sink of
 * the audit log fails (so that no operation happens), or when a version that failed was rolled back; `down` once one is past its TTL. Return it from a
 * Terminus check: `() => secretsHealth.check('secrets')`.
 */
export class SecretsHealthIndicator {
  constructor(private readonly runtime: SecretsRuntime) {}

  check(key = 'secrets'): SecretsHealthResult {
    const health = this.runtime.handles.health();
    const all = [...health.values()];
    const { own, options } = this.runtime;
    const finding = own?.integrity?.latestFinding;
    const keys = options.keys?.status?.() ?? { state: 'available' };
    const isOutOfTouch = own !== undefined && !own.instance.isLive();
    const audit = own?.log?.health() ?? [];
    const isUnrecorded = audit.some(({ mode, status }) => mode === 'required' && status === 'failing');
    return {
      [key]: {
        status: all.some(({ status }) => status === 'expired') ? 'down' : 'up',
        degraded:
          isOutOfTouch ||
          isUnrecorded ||
          finding !== undefined ||
          keys.state === 'away' ||
          all.some(({ status, rolledBack }) => status === 'degraded' || rolledBack),
        secrets: Object.fromEntries(health),
        rotations: Object.fromEntries(own?.troubles.current() ?? []),
        ...(finding === undefined ? {} : { integrity: finding }),
        audit,
        keys,
      },
    };
  }
}
