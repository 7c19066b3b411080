import type { SecretHealth } from '../client/secret-handles.js';
import type { SecretsRuntime } from './secrets-runtime.js';

/** The result shape that `@nestjs/terminus` takes from any indicator. */
export interface SecretsHealthResult {
  readonly [key: string]: {
    readonly status: 'up' | 'down';
    readonly degraded: boolean;
    readonly secrets: Readonly<Record<string, SecretHealth>>;
  };
}

/**
 * Health of the secrets this application uses. `up` as long as every value may be used, `degraded: true` when some of them could not be
 * refreshed; `down` once one is past its TTL. Return it from a Terminus check: `() => secretsHealth.check('secrets')`.
 */
export class SecretsHealthIndicator {
  constructor(private readonly runtime: SecretsRuntime) {}

  check(key = 'secrets'): SecretsHealthResult {
    const health = this.runtime.handles.health();
    const all = [...health.values()];
    return {
      [key]: {
        status: all.some(({ status }) => status === 'expired') ? 'down' : 'up',
        degraded: all.some(({ status }) => status === 'degraded'),
        secrets: Object.fromEntries(health),
      },
    };
  }
}
