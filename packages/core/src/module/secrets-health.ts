import type { SecretHealth } from '../client/secret-handles.js';
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
  };
}

/**
 * Health of the secrets this application uses. `up` as long as every value may be used, `degraded: true` when some of them could not be
 * refreshed, when the store has not taken a heartbeat for the length of a lease, when a version that failed was rolled back, or when the store was tampered with; `down` once one is past its TTL. Return it from a Terminus check: `() => secretsHealth.check('secrets')`.
 */
export class SecretsHealthIndicator {
  constructor(private readonly runtime: SecretsRuntime) {}

  check(key = 'secrets'): SecretsHealthResult {
    const health = this.runtime.handles.health();
    const all = [...health.values()];
    const { own } = this.runtime;
    const finding = own?.integrity?.latestFinding;
    const isOutOfTouch = own !== undefined && !own.instance.isLive();
    return {
      [key]: {
        status: all.some(({ status }) => status === 'expired') ? 'down' : 'up',
        degraded:
          isOutOfTouch ||
          finding !== undefined ||
          all.some(({ status, rolledBack }) => status === 'degraded' || rolledBack),
        secrets: Object.fromEntries(health),
        rotations: Object.fromEntries(own?.troubles.current() ?? []),
        ...(finding === undefined ? {} : { integrity: finding }),
      },
    };
  }
}
