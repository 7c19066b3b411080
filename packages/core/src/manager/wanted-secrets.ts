import type { Caller } from '../doors/caller.js';
import {
  RotationFailedError,
  RotationPolicyError,
  SecretExistsError,
  SecretNotFoundError,
} from '../foundation/errors.js';
import { checkRotationPolicy, type RotationPolicy } from '../versions/rotation-policy.js';
import { checkSecretName } from '../versions/secret-name.js';
import { type SecretRecord, versionAt } from '../versions/secret-record.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { newSecret, newSecretRecord, requireUndeleted, type WantedSecret } from './requests.js';
import { policyUpdateOf, SecretRotations } from './secret-rotations.js';
import { creationOf, SecretValues } from './secret-values.js';

/**
 * Secrets that an application cannot start without. To see what is missing takes nobody's leave, since nothing of it is told; making it does:
 * `secrets:CreateSecret` for a secret, `secrets:UpdateSecretRotationPolicy` for a policy other than the stored one.
 */
export class WantedSecrets {
  readonly #values: SecretValues;
  readonly #rotations: SecretRotations;

  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {
    this.#values = new SecretValues(parts, caller);
    this.#rotations = new SecretRotations(parts, caller);
  }

  async ensure(wanted: WantedSecret): Promise<void> {
    const { name, initial, rotation } = wanted;
    const record = (await this.parts.versions.find(checkSecretName(name)))?.record;
    if (record !== undefined) requireUndeleted(record);
    if (rotation !== undefined) checkRotationPolicy(name, rotation);
    // It has no value of its own: each instance gets one when it opens the secret.
    if (rotation?.lease !== undefined) return this.#putRecord(wanted, rotation, record);
    if (record === undefined || versionAt(record, 'current') === undefined) {
      if (initial === undefined) throw new SecretNotFoundError(name);
      if (initial === 'rotator') return this.#makeFirstVersion(wanted, record);
      try {
        await this.#values.create(name, await initial(), wanted);
        return;
      } catch (error) {
        // Another instance that started at the same time may have been first: its value counts.
        if (!(error instanceof SecretExistsError)) throw error;
      }
    }
    if (rotation !== undefined && !isSamePolicy(record, rotation)) await this.#rotations.updatePolicy(name, rotation);
  }

  async #makeFirstVersion(wanted: WantedSecret, record: SecretRecord | undefined): Promise<void> {
    const { name, rotation } = wanted;
    if (rotation === undefined) {
      throw new RotationPolicyError(
        name,
        `The definition of ${name} says initial: 'rotator' but has no rotation policy that names one.`,
      );
    }
    await this.#putRecord(wanted, rotation, record);
    const { engine } = this.parts;
    const interrupted = (await engine.status(name)).active !== undefined;
    try {
      await engine.rotate(name, { reason: 'first-version' });
    } catch (error) {
      // What an earlier start had left may have been a failure still to be undone. Now that it is, the way is free for a new attempt.
      if (!interrupted || !(error instanceof RotationFailedError && error.undone)) throw error;
      await engine.rotate(name, { reason: 'first-version' });
    }
  }

  /** The record of a secret without a value, with its policy. */
  async #putRecord(wanted: WantedSecret, rotation: RotationPolicy, record: SecretRecord | undefined): Promise<void> {
    const { door, versions, clock } = this.parts;
    const { name } = wanted;
    if (record !== undefined && isSamePolicy(record, rotation)) return;
    const asked = record === undefined ? creationOf(name, wanted) : policyUpdateOf(name, rotation);
    await door.write(this.caller, asked, async () => {
      const fresh = await newSecret(versions, clock, wanted, name);
      return versions.change(name, (before) => ({
        record: { ...(before ?? newSecretRecord(name, wanted, fresh)), rotation },
      }));
    });
  }
}

function isSamePolicy(record: SecretRecord | undefined, rotation: RotationPolicy): boolean {
  return JSON.stringify(record?.rotation) === JSON.stringify(rotation);
}
