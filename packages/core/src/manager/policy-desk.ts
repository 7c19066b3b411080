import {
  policyResource,
  secretResource,
  STORE_RESOURCE,
  type AccessContext,
  type Resource,
} from '../access/access-request.js';
import type { ActionName } from '../access/actions.js';
import type { PolicyDocument } from '../access/policy-document.js';
import type { PolicyChangeOptions, StoredIdentityPolicy } from '../access/policy-store.js';
import type { Principal } from '../access/principal.js';
import type { Simulation } from '../access/simulation.js';
import type { Caller } from '../doors/caller.js';
import { type Asked, factsOf } from '../doors/door.js';
import { checkSecretName } from '../versions/secret-name.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { authorOf } from './secret-policies.js';

/** An identity policy as it is handed in; `document` may be JSON text. */
export interface WantedPolicy {
  readonly name: string;
  readonly principals: readonly string[];
  readonly document: PolicyDocument | string;
}

/** `SecretsManager.policies`: the policies of the store. See docs/access-control.md. */
export class PolicyDesk {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  /**
   * Sets an identity policy, new or in place of the one of that name.
   * @throws PolicyInvalidError with every fault; PolicyLockoutError when the caller could not take it back, unless `force` is given;
   *   PolicyChangedError, PolicyLimitError
   */
  putPolicy(policy: WantedPolicy, options: PolicyChangeOptions = {}): Promise<StoredIdentityPolicy> {
    const { name, principals } = policy;
    const asked: Asked = {
      operation: 'putPolicy',
      resource: policyResource(shown(name)),
      parameters: { principals: listed(principals), force: options.force, ifSequence: options.ifSequence },
    };
    return this.parts.door.write(this.caller, asked, () =>
      this.parts.policies.putPolicy(authorOf(this.caller, asked, this.parts.clock), policy, options),
    );
  }

  /** @throws PolicyNotFoundError, PolicyLockoutError, PolicyChangedError */
  deletePolicy(name: string, options: PolicyChangeOptions = {}): Promise<void> {
    const asked: Asked = {
      operation: 'deletePolicy',
      resource: policyResource(shown(name)),
      parameters: { force: options.force, ifSequence: options.ifSequence },
    };
    return this.parts.door.write(this.caller, asked, () =>
      this.parts.policies.deletePolicy(authorOf(this.caller, asked, this.parts.clock), name, options),
    );
  }

  /** Undefined when there is none, or none that can be read; see `listPolicies`. */
  getPolicy(name: string): Promise<StoredIdentityPolicy | undefined> {
    const asked: Asked = { operation: 'getPolicy', resource: policyResource(shown(name)) };
    return this.parts.door.read(this.caller, asked, async () => this.parts.policies.getPolicy(name));
  }

  /** The names of the identity policies of the store, in order; `corrupt` are those that cannot be trusted. */
  listPolicies(prefix = ''): Promise<{ readonly names: readonly string[]; readonly corrupt: readonly string[] }> {
    const asked: Asked = { operation: 'listPolicies', resource: policyResource(shown(prefix)) };
    return this.parts.door.read(this.caller, asked, async () => this.parts.policies.listPolicies(prefix));
  }

  /** What would be decided, why, and what would change it. Give a secret's facts with the resource, or they are looked up. */
  simulate(
    principal: Principal,
    action: ActionName,
    resource: Resource,
    context: Partial<AccessContext> = {},
  ): Promise<Simulation> {
    const { door, policies, versions, clock } = this.parts;
    const asked: Asked = {
      operation: 'simulate',
      resource: STORE_RESOURCE,
      parameters: { principal: principal.id, action, resource: resource.id },
    };
    return door.read(this.caller, asked, async () => {
      const name = resource.facts === undefined && resource.id.startsWith('secret/') ? resource.id.slice(7) : '';
      const record = name === '' ? undefined : (await versions.find(checkSecretName(name)))?.record;
      const known = record === undefined ? resource : secretResource(name, factsOf(record));
      return policies.simulate(principal, action, known, { time: clock.now(), ...context });
    });
  }
}

const LONGEST_NAME = 128;

/** What names a policy in a request, which the store has not checked yet. */
function shown(name: unknown): string {
  return typeof name === 'string' ? name.slice(0, LONGEST_NAME) : '';
}

function listed(principals: unknown): readonly string[] {
  return Array.isArray(principals) ? principals.slice(0, 100).map(shown) : [];
}
