import type { Observable } from 'rxjs';
import { STORE_RESOURCE } from '../access/access-request.js';
import type { PolicyDocument } from '../access/policy-document.js';
import type { PolicyChangeOptions, StoredSecretPolicy } from '../access/policy-store.js';
import type { Principal } from '../access/principal.js';
import { type CallContext, Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import { observed } from '../doors/observed.js';
import { randomPassword, type PasswordOptions } from '../foundation/random-password.js';
import type { LifecycleEvent } from '../lifecycle/lifecycle-events.js';
import type { DeleteSecretOptions, DestroyVersionOptions } from '../lifecycle/lifecycle-requests.js';
import type { RotationEvent } from '../rotation/rotation-events.js';
import type { RotationResult } from '../rotation/rotation-result.js';
import type { RotationPolicy } from '../versions/rotation-policy.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { AuditDesk } from './audit-desk.js';
import { BackupDesk } from './backup-desk.js';
import type { SecretDescription, VersionDescription } from './descriptions.js';
import { KeyDesk } from './key-desk.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { IntegrityDesk } from './integrity-desk.js';
import { PolicyDesk } from './policy-desk.js';
import type {
  CreateSecretOptions,
  PutSecretValueOptions,
  RotateSecretOptions,
  SecretPage,
  SecretUpdate,
  VersionSelector,
  WantedSecret,
} from './requests.js';
import { SecretCatalogue } from './secret-catalogue.js';
import { SecretEnds } from './secret-ends.js';
import { SecretPolicies } from './secret-policies.js';
import { SecretRotations } from './secret-rotations.js';
import { SecretValues } from './secret-values.js';
import { WantedSecrets } from './wanted-secrets.js';

/**
 * The secrets manager: creates, reads, versions and rotates secrets. Every value that leaves the store passes through here, and every operation is
 * authorised, done and audited, in the name of a caller: of the application itself, or of whom `as` says.
 *
 * Every method that names a secret throws `InvalidSecretNameError` for an illegal name, `AccessDeniedError` for what policies do not allow,
 * `SecretNotFoundError` for an unknown one (but `createSecret`), `StoreUnavailableError` when the store does not answer, and
 * `AuditUnavailableError` when the audit log cannot take the event: the operation then did not happen.
 */
export class SecretsManager {
  readonly #parts: SecretsManagerParts;
  readonly #caller: Caller;
  readonly #values: SecretValues;
  readonly #catalogue: SecretCatalogue;
  readonly #rotations: SecretRotations;
  readonly #secretPolicies: SecretPolicies;
  readonly #wanted: WantedSecrets;
  readonly #ends: SecretEnds;
  readonly #keys: KeyDesk;
  readonly #policies: PolicyDesk;
  readonly #audit: AuditDesk;
  readonly #backup: BackupDesk;
  readonly #integrity: IntegrityDesk;

  constructor(parts: SecretsManagerParts, caller: Caller) {
    this.#parts = parts;
    this.#caller = caller;
    this.#values = new SecretValues(parts, caller);
    this.#catalogue = new SecretCatalogue(parts, caller);
    this.#rotations = new SecretRotations(parts, caller);
    this.#secretPolicies = new SecretPolicies(parts, caller);
    this.#wanted = new WantedSecrets(parts, caller);
    this.#ends = new SecretEnds(parts, caller);
    this.#keys = new KeyDesk(parts, caller);
    this.#policies = new PolicyDesk(parts, caller);
    this.#audit = new AuditDesk(parts, caller);
    this.#backup = new BackupDesk(parts, caller);
    this.#integrity = new IntegrityDesk(parts, caller);
  }

  /** Who may do what: identity policies, and what they come to. */
  get policies(): PolicyDesk {
    return this.#policies;
  }

  /** The master keys that seal values. */
  get keys(): KeyDesk {
    return this.#keys;
  }

  /** Who did what: the audit log. */
  get audit(): AuditDesk {
    return this.#audit;
  }

  /** The whole store, out and in: what `@nestjs-secrets/backup` puts into files. */
  get backup(): BackupDesk {
    return this.#backup;
  }

  /** Whether the store is what was written to it. */
  get integrity(): IntegrityDesk {
    return this.#integrity;
  }

  /**
   * This manager in the name of somebody else: a caller that your own authentication vouches for, with what is known of his call (address, request
   * id…), which policies may ask about. Cheap; make one a call.
   */
  as(principal: Principal, context: CallContext = {}): SecretsManager {
    return new SecretsManager(this.#parts, new Caller(principal, context));
  }

  /** Rotations as they happen, values never; nothing is replayed. Completes on shutdown. */
  get rotationEvents$(): Observable<RotationEvent> {
    return this.#rotations.events$;
  }

  /** What becomes of secrets and versions in time, told in the instance that acted; nothing is replayed. Completes on shutdown. */
  get lifecycleEvents$(): Observable<LifecycleEvent> {
    const asked: Asked = { operation: 'observeLifecycle', resource: STORE_RESOURCE };
    return observed(this.#parts.door, this.#caller, asked, this.#parts.lifecycle.events$);
  }

  /**
   * Creates a secret with its first value, which is current at once.
   * @throws SecretExistsError, InvalidSecretValueError, ValueTooLargeError, RotationPolicyError
   */
  async createSecret(name: string, value: unknown, options: CreateSecretOptions = {}): Promise<SecretDescription> {
    return this.#values.create(name, value, options);
  }

  /**
   * The value of a version: the current one unless `versionId` or `stage` says otherwise. What is returned prints without its value.
   * @throws VersionNotFoundError, SecretExpiredError, CorruptRecordError
   */
  async getSecretValue<T = unknown>(name: string, selector: VersionSelector = {}): Promise<SecretVersion<T>> {
    return this.#values.get<T>(name, selector);
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
    return this.#values.put(name, value, options);
  }

  async describeSecret(name: string): Promise<SecretDescription> {
    return this.#catalogue.describe(name);
  }

  /**
   * Secrets in the order of their names, up to 100 a page, without values. `prefix` narrows them by name. The names of secrets whose record
   * is corrupt come beside the others, in `corrupt`. Where policies ask about the secrets themselves (tags, type), a page has those that its
   * caller may list, which may be none of many.
   */
  async listSecrets(options: { prefix?: string; after?: string; limit?: number } = {}): Promise<SecretPage> {
    return this.#catalogue.list(options);
  }

  /** Every version that is kept, oldest first, with its stages. */
  async listVersions(name: string): Promise<readonly VersionDescription[]> {
    return this.#catalogue.listVersions(name);
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
    return this.#catalogue.updateStage(name, stage, versionId);
  }

  /** Changes what describes a secret; what is left out stays. */
  async updateSecret(name: string, options: SecretUpdate): Promise<SecretDescription> {
    return this.#catalogue.update(name, options);
  }

  /** Adds tags to a secret, in place of those of the same keys. */
  async tag(name: string, tags: Readonly<Record<string, string>>): Promise<SecretDescription> {
    return this.#catalogue.tag(name, tags);
  }

  /** Takes tags away, by their keys; what is not there is no error. */
  async untag(name: string, tagKeys: readonly string[]): Promise<SecretDescription> {
    return this.#catalogue.untag(name, tagKeys);
  }

  /**
   * Sets how and when a secret rotates; null takes the policy away. Takes effect at once.
   * @throws RotationPolicyError
   */
  async updateRotationPolicy(name: string, policy: RotationPolicy | null): Promise<SecretDescription> {
    return this.#rotations.updatePolicy(name, policy);
  }

  /**
   * Rotates a secret now, or goes on with a rotation that did not get through; it takes place in whichever instance has it under way. Resolves once
   * the new version is current; with `until: 'retired'` once the target refuses the old one as well, which waits for every consumer of every instance to
   * let go of it. An `emergency` waits for that too, but no longer than its deadline. A `dryRun` changes nothing that is in use.
   * @throws RotationPolicyError, RotatorNotFoundError, RehearsalUnsupportedError
   * @throws RotationFailedError when a step threw; the version that was current still is
   */
  async rotateSecret(name: string, options: RotateSecretOptions = {}): Promise<RotationResult> {
    return this.#rotations.rotate(name, options);
  }

  /** Stops the schedule of a secret; `rotateSecret` still works, and what is under way goes on. */
  async pauseRotation(name: string): Promise<SecretDescription> {
    return this.#rotations.pause(name);
  }

  /** Starts the schedule of a secret again after `pauseRotation`, or after it stood still because too many rotations had failed. */
  async resumeRotation(name: string): Promise<SecretDescription> {
    return this.#rotations.resume(name);
  }

  /**
   * Has a secret removed after a recovery window of 7 to 30 days, 30 by default. Until then it gives no value, takes none and does not rotate; what instances
   * hold of it stays with them. With `force` it is gone at once, and nothing is returned. A rotation under way comes to its end first.
   * @throws DeletionRequestError
   * @throws SecretInUseError by force, while a rotation is under way or instances have credentials of their own of it
   */
  async deleteSecret(name: string, options: DeleteSecretOptions = {}): Promise<SecretDescription | undefined> {
    return this.#ends.delete(name, options);
  }

  /** Takes a deletion back; restoring what is not deleted changes nothing. */
  async restoreSecret(name: string): Promise<SecretDescription> {
    return this.#ends.restore(name);
  }

  /**
   * Destroys the value of an old version, with its data key, at once or `after` a while. It must have no stage, and be retired where it belongs to a target.
   * @throws VersionNotFoundError, VersionInUseError, DeletionRequestError
   */
  async destroyVersion(
    name: string,
    versionId: string,
    options: DestroyVersionOptions = {},
  ): Promise<SecretDescription> {
    return this.#ends.destroyVersion(name, versionId, options);
  }

  /**
   * A random password, 32 characters of all four classes unless stated otherwise. Nothing is stored. Its event is recorded while the caller goes on.
   * @throws PasswordOptionsError
   */
  getRandomPassword(options: PasswordOptions = {}): string {
    const { door, randomness } = this.#parts;
    const asked = { operation: 'getRandomPassword', resource: STORE_RESOURCE } as const;
    return door.readNow(this.#caller, asked, () => randomPassword(options, randomness));
  }

  /**
   * Sets the policy of a secret itself (statements with a `Principal`), as an object or as JSON text; null takes it away.
   * @throws PolicyInvalidError with every fault; PolicyLockoutError when the caller could not take it back, unless `force` is given;
   *   PolicyChangedError, PolicyLimitError, PolicyNotFoundError
   */
  async setSecretPolicy(
    name: string,
    document: PolicyDocument | string | null,
    options: PolicyChangeOptions = {},
  ): Promise<StoredSecretPolicy | undefined> {
    return this.#secretPolicies.set(name, document, options);
  }

  /** The policy of a secret itself; undefined when it has none, or none that can be read. */
  async getSecretPolicy(name: string): Promise<StoredSecretPolicy | undefined> {
    return this.#secretPolicies.get(name);
  }

  /**
   * Makes sure that a secret is there with a value, and that the store has its rotation policy. The first value is made only when there is
   * none.
   * @throws SecretNotFoundError when there is none and `initial` is undefined
   */
  async ensureSecret(wanted: WantedSecret): Promise<void> {
    return this.#wanted.ensure(wanted);
  }
}
