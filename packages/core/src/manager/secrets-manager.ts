import type { Observable } from 'rxjs';
import {
  RotationFailedError,
  RotationPolicyError,
  RotationStoppedError,
  SecretExistsError,
  SecretExpiredError,
  SecretNotFoundError,
  StageError,
  VersionConflictError,
  VersionNotFoundError,
} from '../foundation/errors.js';
import type { Clock } from '../foundation/clock.js';
import { randomPassword, type PasswordOptions } from '../foundation/random-password.js';
import type { Randomness } from '../foundation/randomness.js';
import type { RotationEngine } from '../rotation/rotation-engine.js';
import type { RotationResult } from '../rotation/rotation-result.js';
import type { RotationEvent } from '../rotation/rotation-events.js';
import type { RotationScheduler } from '../rotation/rotation-scheduler.js';
import { checkRotationPolicy, type RotationPolicy } from '../versions/rotation-policy.js';
import type { SecretDefinitions } from '../versions/secret-definition.js';
import { checkSecretName } from '../versions/secret-name.js';
import {
  addVersion,
  checkCustomStage,
  findVersion,
  isLeased,
  nextVersionId,
  promote,
  requireVersion,
  setStage,
  stagesOf,
  versionAt,
  type SecretRecord,
} from '../versions/secret-record.js';
import { encodeValue, sameValue } from '../versions/secret-value.js';
import { ConcealedVersion, type SecretVersion } from '../versions/secret-version.js';
import type { VersionStore } from '../versions/version-store.js';
import { describeSecret, describeVersion, type SecretDescription, type VersionDescription } from './descriptions.js';
import {
  checkTtl,
  checkVersionId,
  newSecret,
  newSecretRecord,
  requireUndeleted,
  rotationRequest,
  select,
  type NewSecret,
  type CreateSecretOptions,
  type PutSecretValueOptions,
  type RotateSecretOptions,
  type SecretPage,
  type VersionSelector,
  type WantedSecret,
} from './requests.js';

/** What the manager stands on. */
export interface SecretsManagerParts {
  readonly versions: VersionStore;
  readonly definitions: SecretDefinitions;
  readonly engine: RotationEngine;
  readonly scheduler: RotationScheduler;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

const LONGEST_PAGE = 100;

/**
 * The secrets manager: creates, reads, versions and rotates secrets. Every value that leaves the store passes through here.
 *
 * Every method that names a secret throws `InvalidSecretNameError` for an illegal name, `SecretNotFoundError` for an unknown one (but
 * `createSecret`), and `StoreUnavailableError` when the store does not answer.
 */
export class SecretsManager {
  constructor(private readonly parts: SecretsManagerParts) {}

  /** Rotations as they happen, values never; nothing is replayed. Completes on shutdown. */
  get rotationEvents$(): Observable<RotationEvent> {
    return this.parts.engine.events$;
  }

  /**
   * Creates a secret with its first value, which is current at once.
   * @throws SecretExistsError, InvalidSecretValueError, ValueTooLargeError, RotationPolicyError
   */
  async createSecret(name: string, value: unknown, options: CreateSecretOptions = {}): Promise<SecretDescription> {
    const { versions, definitions, clock } = this.parts;
    const fresh = await newSecret(versions, clock, checkSecretName(name), options);
    const empty = newSecretRecord(name, options, fresh);
    const versionId = checkVersionId(name, options.versionId ?? nextVersionId(empty));
    await definitions.check(name, value);
    const record = await versions.change(name, async (existing) => {
      if (existing !== undefined) {
        requireUndeleted(existing);
        throw new SecretExistsError(name);
      }
      const now = clock.now();
      const sealed = await versions.sealValue(name, versionId, value, empty.key);
      return { record: promote(addVersion(empty, versionId, now), versionId, now), writes: [sealed] };
    });
    return describeSecret(record ?? empty);
  }

  /**
   * The value of a version: the current one unless `versionId` or `stage` says otherwise. What is returned prints without its value.
   * @throws VersionNotFoundError, SecretExpiredError, CorruptRecordError
   */
  async getSecretValue<T = unknown>(name: string, selector: VersionSelector = {}): Promise<SecretVersion<T>> {
    const record = requireUndeleted(await this.parts.versions.get(checkSecretName(name)));
    const version = select(record, selector);
    if (version.expiresAt !== undefined && version.expiresAt <= this.parts.clock.now())
      throw new SecretExpiredError(name, version.id, version.expiresAt);
    const value = await this.parts.versions.openValue(name, version.id);
    return new ConcealedVersion(name, version.id, value as T);
  }

  /**
   * Stores a new version and makes it current, or puts `stages` of your own on it instead. The same version id with the same value changes
   * nothing and succeeds.
   *
   * This changes what applications read, not the target: use `rotateSecret` where a target must learn the new value.
   * @throws VersionConflictError for a known version id with another value
   * @throws InvalidSecretValueError, ValueTooLargeError, StageError
   */
  async putSecretValue(name: string, value: unknown, options: PutSecretValueOptions = {}): Promise<VersionDescription> {
    checkSecretName(name);
    const { versions, definitions, clock } = this.parts;
    await definitions.check(name, value);
    const ttlMs = checkTtl(name, options.ttl);
    let versionId = '';
    const record = await versions.change(name, async (before) => {
      if (before === undefined) throw new SecretNotFoundError(name);
      requireUndeleted(before);
      versionId = checkVersionId(name, options.versionId ?? nextVersionId(before));
      if (findVersion(before, versionId) !== undefined) {
        await this.#requireSameValue(name, versionId, value);
        return undefined;
      }
      const now = clock.now();
      let after = addVersion(before, versionId, now, ttlMs ?? before.ttlMs);
      if (options.stages === undefined) after = promote(after, versionId, now);
      for (const stage of options.stages ?? []) {
        checkCustomStage(after, stage);
        after = setStage(after, stage, versionId);
      }
      return { record: after, writes: [await versions.sealValue(name, versionId, value, before.key)] };
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return describeVersion(record, requireVersion(record, versionId));
  }

  async describeSecret(name: string): Promise<SecretDescription> {
    const record = await this.parts.versions.get(checkSecretName(name));
    const [state, nextRotationAt] = [await this.parts.engine.status(name), await this.parts.scheduler.nextRunAt(name)];
    return describeSecret(record, state, nextRotationAt);
  }

  /**
   * Secrets in the order of their names, up to 100 a page, without values. `prefix` narrows them by name. The names of secrets whose record
   * is corrupt come beside the others, in `corrupt`.
   */
  async listSecrets(options: { prefix?: string; after?: string; limit?: number } = {}): Promise<SecretPage> {
    const { prefix = '', after } = options;
    if (prefix !== '') checkSecretName(prefix);
    if (after !== undefined) checkSecretName(after);
    const limit = Math.min(LONGEST_PAGE, Math.max(1, Math.trunc(options.limit ?? LONGEST_PAGE)));
    const found = await this.parts.versions.list({ prefix, limit, ...(after === undefined ? {} : { after }) });
    return {
      items: found.flatMap(({ record }) => (record === undefined ? [] : [describeSecret(record)])),
      corrupt: found.filter(({ record }) => record === undefined).map(({ name }) => name),
      next: found.length === limit ? found.at(-1)?.name : undefined,
    };
  }

  /** Every version that is kept, oldest first, with its stages. */
  async listVersions(name: string): Promise<readonly VersionDescription[]> {
    const record = await this.parts.versions.get(checkSecretName(name));
    return record.versions.map((version) => describeVersion(record, version));
  }

  /**
   * Moves a stage to a version, or takes a stage of your own away (`versionId: null`). Moving `current` also moves `previous`, in the same
   * commit; moving it to an older version is a rollback, which every consumer follows. `previous` and `pending` cannot be moved by hand, and
   * `current` cannot be taken away.
   * @throws StageError, VersionNotFoundError
   */
  async updateVersionStage(
    name: string,
    stage: string,
    versionId: string | null,
  ): Promise<readonly VersionDescription[]> {
    checkSecretName(name);
    const record = await this.parts.versions.change(name, (before) => {
      if (before === undefined) throw new SecretNotFoundError(name);
      if (stage === 'current' && versionId !== null) return { record: this.#moveCurrent(before, versionId) };
      checkCustomStage(before, stage);
      if (versionId !== null) requireVersion(before, versionId);
      return { record: setStage(before, stage, versionId ?? undefined) };
    });
    return (record?.versions ?? []).map((version) => describeVersion(record as SecretRecord, version));
  }

  /** Changes what describes a secret; what is left out stays. */
  async updateSecret(
    name: string,
    options: Pick<CreateSecretOptions, 'description' | 'type' | 'tags' | 'ttl' | 'key' | 'destroyOldAfter'>,
  ): Promise<SecretDescription> {
    const ttlMs = checkTtl(checkSecretName(name), options.ttl);
    const destroyOldAfterMs = checkTtl(name, options.destroyOldAfter, 'destroyOldAfter');
    const key = options.key === undefined ? undefined : await this.parts.versions.keys.records.resolve(options.key);
    return this.#edit(name, (before) => ({
      ...before,
      description: options.description ?? before.description,
      type: options.type ?? before.type,
      tags: options.tags ?? before.tags,
      ...(ttlMs === undefined ? {} : { ttlMs }),
      ...(destroyOldAfterMs === undefined ? {} : { destroyOldAfterMs }),
      ...(key === undefined ? {} : { key }),
    }));
  }

  /**
   * Sets how and when a secret rotates; null takes the policy away. Takes effect at once.
   * @throws RotationPolicyError
   */
  async updateRotationPolicy(name: string, policy: RotationPolicy | null): Promise<SecretDescription> {
    if (policy !== null) checkRotationPolicy(checkSecretName(name), policy);
    return this.#edit(checkSecretName(name), ({ rotation: _replaced, ...before }) =>
      policy === null ? before : { ...before, rotation: policy },
    );
  }

  /**
   * Rotates a secret now, or goes on with a rotation that did not get through; it takes place in whichever instance has it under way. Resolves once
   * the new version is current; with `until: 'retired'` once the target refuses the old one as well, which waits for every consumer of every instance to
   * let go of it. An `emergency` waits for that too, but no longer than its deadline. A `dryRun` changes nothing that is in use.
   * @throws RotationPolicyError, RotatorNotFoundError, RehearsalUnsupportedError
   * @throws RotationFailedError when a step threw; the version that was current still is
   */
  async rotateSecret(name: string, options: RotateSecretOptions = {}): Promise<RotationResult> {
    const { engine, clock, versions } = this.parts;
    const request = rotationRequest(checkSecretName(name), options, clock.now());
    if (isLeased(await versions.get(name))) return this.#rotateLeases(name, options);
    const result = await engine.rotate(name, request);
    if (result === undefined) throw new RotationStoppedError(name);
    if (request.reason === 'rehearsal') return result;
    if ((options.until ?? (request.reason === 'emergency' ? 'retired' : 'promoted')) === 'promoted') return result;
    await engine.retired(name);
    const { lastRetired } = await engine.status(name);
    return lastRetired?.versionId === result.previousVersionId ? { ...result, retired: lastRetired } : result;
  }

  /** Stops the schedule of a secret; `rotateSecret` still works, and what is under way goes on. */
  async pauseRotation(name: string): Promise<SecretDescription> {
    return this.#setSchedule(name, false);
  }

  /** Starts the schedule of a secret again after `pauseRotation`, or after it stood still because too many rotations had failed. */
  async resumeRotation(name: string): Promise<SecretDescription> {
    await this.parts.engine.forgiveFailures(checkSecretName(name));
    return this.#setSchedule(name, true);
  }

  /**
   * A random password, 32 characters of all four classes unless stated otherwise. Nothing is stored.
   * @throws PasswordOptionsError
   */
  getRandomPassword(options: PasswordOptions = {}): string {
    return randomPassword(options, this.parts.randomness);
  }

  /**
   * Makes sure that a secret is there with a value, and that the store has its rotation policy. The first value is made only when there is
   * none.
   * @throws SecretNotFoundError when there is none and `initial` is undefined
   */
  async ensureSecret(wanted: WantedSecret): Promise<void> {
    const { name, initial, rotation } = wanted;
    const { versions, clock } = this.parts;
    const found = await versions.find(checkSecretName(name));
    if (found !== undefined) requireUndeleted(found.record);
    if (rotation !== undefined) checkRotationPolicy(name, rotation);
    const fresh = await newSecret(versions, clock, name, wanted);
    if (rotation?.lease !== undefined) {
      // It has no value of its own: each instance gets one when it opens the secret.
      await versions.change(name, (before) => ({
        record: { ...(before ?? newSecretRecord(name, wanted, fresh)), rotation },
      }));
      return;
    }
    if (found === undefined || versionAt(found.record, 'current') === undefined) {
      if (initial === undefined) throw new SecretNotFoundError(name);
      if (initial === 'rotator') return this.#makeFirstVersion(wanted, fresh);
      try {
        await this.createSecret(name, await initial(), wanted);
        return;
      } catch (error) {
        // Another instance that started at the same time may have been first: its value counts.
        if (!(error instanceof SecretExistsError)) throw error;
      }
    }
    if (rotation !== undefined && JSON.stringify(found?.record.rotation) !== JSON.stringify(rotation))
      await this.updateRotationPolicy(name, rotation);
  }

  async #makeFirstVersion(wanted: WantedSecret, fresh: NewSecret): Promise<void> {
    const { name, rotation } = wanted;
    if (rotation === undefined) {
      throw new RotationPolicyError(
        name,
        `The definition of ${name} says initial: 'rotator' but has no rotation policy that names one.`,
      );
    }
    await this.parts.versions.change(name, (before) => ({
      record: { ...(before ?? newSecretRecord(name, wanted, fresh)), rotation },
    }));
    const interrupted = (await this.parts.engine.status(name)).active !== undefined;
    try {
      await this.parts.engine.rotate(name, { reason: 'first-version' });
    } catch (error) {
      // What an earlier start had left may have been a failure still to be undone. Now that it is, the way is free for a new attempt.
      if (!interrupted || !(error instanceof RotationFailedError && error.undone)) throw error;
      await this.parts.engine.rotate(name, { reason: 'first-version' });
    }
  }

  /** A secret of leases rotates in that each instance gets a new credential. */
  async #rotateLeases(name: string, options: RotateSecretOptions): Promise<RotationResult> {
    const { leases } = this.parts.engine;
    const results = await Promise.all((await leases.of(name)).map((lease) => this.rotateSecret(lease, options)));
    const own = results.find(({ secretName }) => secretName === leases.nameOf(name)) ?? results[0];
    if (own !== undefined) return own;
    throw new VersionNotFoundError(name, 'lease: no instance uses it');
  }

  #setSchedule(name: string, enabled: boolean): Promise<SecretDescription> {
    return this.#edit(checkSecretName(name), (before) => {
      if (before.rotation !== undefined) return { ...before, rotation: { ...before.rotation, enabled } };
      throw new RotationPolicyError(name, `Secret ${name} has no rotation policy, so there is no schedule.`);
    });
  }

  #moveCurrent(record: SecretRecord, versionId: string): SecretRecord {
    const version = requireVersion(record, versionId);
    if (version.state === 'retiring' || version.state === 'retired') {
      throw new StageError(
        record.name,
        `Version ${versionId} of ${record.name} is ${version.state}: its target refuses it. Rotate to get a new one.`,
      );
    }
    if (stagesOf(record, versionId).includes('pending')) {
      throw new StageError(
        record.name,
        `Version ${versionId} of ${record.name} is being verified by a rotation, which makes it current when it works.`,
      );
    }
    return promote(record, versionId, this.parts.clock.now());
  }

  async #edit(name: string, edit: (record: SecretRecord) => SecretRecord): Promise<SecretDescription> {
    const record = await this.parts.versions.change(name, (before) => {
      if (before === undefined) throw new SecretNotFoundError(name);
      return { record: { ...edit(before), updatedAt: this.parts.clock.now() } };
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return describeSecret(record);
  }

  async #requireSameValue(name: string, versionId: string, value: unknown): Promise<void> {
    const [offered, stored] = [encodeValue(name, value), await this.parts.versions.openEncoded(name, versionId)];
    const same = sameValue(name, offered, stored);
    offered.fill(0);
    stored.fill(0);
    if (!same) throw new VersionConflictError(name, versionId);
  }
}
