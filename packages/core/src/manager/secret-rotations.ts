import type { Observable } from 'rxjs';
import { secretResource, STORE_RESOURCE } from '../access/access-request.js';
import type { OperationName } from '../access/actions.js';
import type { Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import { observed } from '../doors/observed.js';
import { RotationPolicyError, RotationStoppedError, VersionNotFoundError } from '../foundation/errors.js';
import type { RotationEvent } from '../rotation/rotation-events.js';
import type { RotationRequest } from '../rotation/rotation-request.js';
import type { RotationResult } from '../rotation/rotation-result.js';
import { checkRotationPolicy, type RotationPolicy } from '../versions/rotation-policy.js';
import { checkSecretName } from '../versions/secret-name.js';
import { isLeased, type SecretRecord } from '../versions/secret-record.js';
import type { SecretDescription } from './descriptions.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { rotationRequest, type RotateSecretOptions } from './requests.js';
import { SecretCatalogue } from './secret-catalogue.js';

/** The operations on rotations and their policies. What the engine does then, it does as the rotator's principal, by doors of its own. */
export class SecretRotations {
  readonly #catalogue: SecretCatalogue;

  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {
    this.#catalogue = new SecretCatalogue(parts, caller);
  }

  get events$(): Observable<RotationEvent> {
    const { door, engine } = this.parts;
    return observed(door, this.caller, { operation: 'observeRotations', resource: STORE_RESOURCE }, engine.events$);
  }

  async updatePolicy(name: string, policy: RotationPolicy | null): Promise<SecretDescription> {
    if (policy !== null) checkRotationPolicy(checkSecretName(name), policy);
    return this.#catalogue.edit(policyUpdateOf(name, policy), name, ({ rotation: _replaced, ...before }) =>
      policy === null ? before : { ...before, rotation: policy },
    );
  }

  async rotate(name: string, options: RotateSecretOptions): Promise<RotationResult> {
    const { door, clock } = this.parts;
    const request = rotationRequest(checkSecretName(name), options, clock.now());
    const asked: Asked = {
      operation: OPERATION_OF[request.reason] ?? 'rotateSecret',
      resource: secretResource(name),
      parameters: { until: options.until, deadline: options.deadline },
    };
    return door.write(this.caller, asked, () => this.#rotate(name, request, options));
  }

  async pause(name: string): Promise<SecretDescription> {
    return this.#setSchedule('pauseRotation', name, false);
  }

  async resume(name: string): Promise<SecretDescription> {
    return this.#setSchedule('resumeRotation', name, true, () => this.parts.engine.forgiveFailures(name));
  }

  async #rotate(name: string, request: RotationRequest, options: RotateSecretOptions): Promise<RotationResult> {
    const { engine, versions } = this.parts;
    if (isLeased(await versions.get(name))) return this.#rotateLeases(name, request, options);
    const result = await engine.rotate(name, request);
    if (result === undefined) throw new RotationStoppedError(name);
    if (request.reason === 'rehearsal') return result;
    if ((options.until ?? (request.reason === 'emergency' ? 'retired' : 'promoted')) === 'promoted') return result;
    await engine.retired(name);
    const { lastRetired } = await engine.status(name);
    return lastRetired?.versionId === result.previousVersionId ? { ...result, retired: lastRetired } : result;
  }

  /** A secret of leases rotates in that each instance gets a new credential. */
  async #rotateLeases(name: string, request: RotationRequest, options: RotateSecretOptions): Promise<RotationResult> {
    const { leases } = this.parts.engine;
    const names = await leases.of(name);
    const results = await Promise.all(names.map((lease) => this.#rotate(lease, request, options)));
    const own = results.find(({ secretName }) => secretName === leases.nameOf(name)) ?? results[0];
    if (own !== undefined) return own;
    throw new VersionNotFoundError(name, 'lease: no instance uses it');
  }

  async #setSchedule(
    operation: Extract<OperationName, 'pauseRotation' | 'resumeRotation'>,
    name: string,
    enabled: boolean,
    first?: () => Promise<void>,
  ): Promise<SecretDescription> {
    const asked: Asked = { operation, resource: secretResource(checkSecretName(name)) };
    const setEnabled = (before: SecretRecord): SecretRecord => {
      if (before.rotation !== undefined) return { ...before, rotation: { ...before.rotation, enabled } };
      throw new RotationPolicyError(name, `Secret ${name} has no rotation policy, so there is no schedule.`);
    };
    return this.#catalogue.edit(asked, name, setEnabled, first);
  }
}

const OPERATION_OF: Readonly<Partial<Record<RotationRequest['reason'], OperationName>>> = {
  emergency: 'emergencyRotateSecret',
  rehearsal: 'rehearseRotation',
};

/** What is asked for when the policy of a secret's rotation is set. */
export function policyUpdateOf(name: string, policy: RotationPolicy | null): Asked {
  return {
    operation: 'updateRotationPolicy',
    resource: secretResource(checkSecretName(name)),
    parameters: { policy: policy === null ? null : JSON.stringify(policy) },
  };
}
