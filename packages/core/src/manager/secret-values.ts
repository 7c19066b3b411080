import { secretResource, type SecretFacts } from '../access/access-request.js';
import type { Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import {
  SecretExistsError,
  SecretExpiredError,
  SecretNotFoundError,
  VersionConflictError,
} from '../foundation/errors.js';
import { checkSecretName } from '../versions/secret-name.js';
import {
  addVersion,
  checkCustomStage,
  findVersion,
  nextVersionId,
  promote,
  requireVersion,
  setStage,
} from '../versions/secret-record.js';
import { encodeValue, sameValue } from '../versions/secret-value.js';
import { ConcealedVersion, type SecretVersion } from '../versions/secret-version.js';
import { describeSecret, describeVersion, type SecretDescription, type VersionDescription } from './descriptions.js';
import type { SecretsManagerParts } from './manager-parts.js';
import {
  checkTtl,
  checkVersionId,
  newSecret,
  newSecretRecord,
  requireUndeleted,
  select,
  type CreateSecretOptions,
  type PutSecretValueOptions,
  tagTexts,
  type VersionSelector,
} from './requests.js';

/** The operations that take in or hand out a value. */
export class SecretValues {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  async create(name: string, value: unknown, options: CreateSecretOptions): Promise<SecretDescription> {
    const { door, versions, definitions, clock } = this.parts;
    if (options.versionId !== undefined) checkVersionId(checkSecretName(name), options.versionId);
    // What is wrong with the options comes before anything is asked.
    newSecretRecord(checkSecretName(name), options, { now: clock.now(), key: undefined, counted: 0 });
    const record = await door.write(this.caller, creationOf(name, options, options.versionId), async () => {
      await definitions.check(name, value);
      const empty = newSecretRecord(name, options, await newSecret(versions, clock, options, name));
      const versionId = options.versionId ?? nextVersionId(empty);
      return versions.change(name, async (existing) => {
        if (existing !== undefined) {
          requireUndeleted(existing);
          throw new SecretExistsError(name);
        }
        const now = clock.now();
        const sealed = await versions.sealValue(name, versionId, value, empty.key);
        return { record: promote(addVersion(empty, versionId, now), versionId, now), writes: [sealed] };
      });
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return describeSecret(record);
  }

  get<T>(name: string, selector: VersionSelector): Promise<SecretVersion<T>> {
    const { door, versions, clock } = this.parts;
    const { versionId, stage } = selector;
    const asked: Asked = {
      operation: 'getSecretValue',
      resource: secretResource(checkSecretName(name)),
      facts: { versionId },
      ...(versionId === undefined || stage !== undefined ? { stages: [stage ?? 'current'] } : { stagesOf: versionId }),
      parameters: { versionId, stage: versionId === undefined ? (stage ?? 'current') : stage },
    };
    return door.read(
      this.caller,
      asked,
      async (seen) => {
        // What was decided by is what is read, where policies asked for it.
        const version = select(requireUndeleted(seen ?? (await versions.get(name))), selector);
        if (version.expiresAt !== undefined && version.expiresAt <= clock.now())
          throw new SecretExpiredError(name, version.id, version.expiresAt);
        return new ConcealedVersion(name, version.id, (await versions.openValue(name, version.id)) as T);
      },
      (version) => ({ additionalEventData: { versionId: version.versionId } }),
    );
  }

  async put(name: string, value: unknown, options: PutSecretValueOptions): Promise<VersionDescription> {
    const { door, versions, definitions, clock } = this.parts;
    const ttlMs = checkTtl(checkSecretName(name), options.ttl);
    const { stages = ['current'] } = options;
    if (options.versionId !== undefined) checkVersionId(name, options.versionId);
    let versionId = '';
    const asked: Asked = {
      operation: 'putSecretValue',
      resource: secretResource(name),
      facts: { versionId: options.versionId },
      stages,
      parameters: { versionId: options.versionId, stages },
    };
    const record = await door.write(this.caller, asked, async () => {
      await definitions.check(name, value);
      return versions.change(name, async (before) => {
        if (before === undefined) throw new SecretNotFoundError(name);
        requireUndeleted(before);
        versionId = options.versionId ?? nextVersionId(before);
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
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return describeVersion(record, requireVersion(record, versionId));
  }

  async #requireSameValue(name: string, versionId: string, value: unknown): Promise<void> {
    const [offered, stored] = [encodeValue(name, value), await this.parts.versions.openEncoded(name, versionId)];
    const same = sameValue(name, offered, stored);
    offered.fill(0);
    stored.fill(0);
    if (!same) throw new VersionConflictError(name, versionId);
  }
}

/** What is asked for when a secret is made: decided by what it would be. */
export function creationOf(name: string, options: CreateSecretOptions, versionId?: string): Asked {
  const { tags = {}, type = 'generic' } = options;
  const facts: SecretFacts = { tags, secretType: type };
  return {
    operation: 'createSecret',
    resource: secretResource(name, facts),
    facts: { requestTags: tags },
    parameters: { type, tags: tagTexts(tags), versionId, rotator: options.rotation?.rotator, key: options.key },
  };
}
