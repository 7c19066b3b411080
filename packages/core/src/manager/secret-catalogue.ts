import { secretResource } from '../access/access-request.js';
import type { OperationName } from '../access/actions.js';
import type { Caller } from '../doors/caller.js';
import { type Asked, factsOf, type Seen } from '../doors/door.js';
import { SecretNotFoundError, StageError } from '../foundation/errors.js';
import { checkSecretName } from '../versions/secret-name.js';
import {
  checkCustomStage,
  promote,
  requireVersion,
  type SecretRecord,
  setStage,
  stagesOf,
} from '../versions/secret-record.js';
import { describeSecret, describeVersion, type SecretDescription, type VersionDescription } from './descriptions.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { checkTtl, tagTexts, type SecretUpdate, type SecretPage } from './requests.js';

const LONGEST_PAGE = 100;

type Tags = Readonly<Record<string, string>>;

/** The operations on what describes secrets and versions; none of them sees a value. */
export class SecretCatalogue {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  describe(name: string): Promise<SecretDescription> {
    const { engine, scheduler } = this.parts;
    return this.#look('describeSecret', name, async (record) => {
      const [state, nextRotationAt] = [await engine.status(name), await scheduler.nextRunAt(name)];
      return describeSecret(record, state, nextRotationAt);
    });
  }

  listVersions(name: string): Promise<readonly VersionDescription[]> {
    return this.#look('listVersions', name, async (record) =>
      record.versions.map((version) => describeVersion(record, version)),
    );
  }

  list(options: { prefix?: string; after?: string; limit?: number }): Promise<SecretPage> {
    const { prefix = '', after } = options;
    if (prefix !== '') checkSecretName(prefix);
    if (after !== undefined) checkSecretName(after);
    const limit = Math.min(LONGEST_PAGE, Math.max(1, Math.trunc(options.limit ?? LONGEST_PAGE)));
    const { door, versions } = this.parts;
    const parameters = { prefix, after, limit };
    const asked: Asked = { operation: 'listSecrets', resource: secretResource(prefix), isListing: true, parameters };
    return door.read(
      this.caller,
      asked,
      async () => {
        const found = await versions.list({ prefix, limit, ...(after === undefined ? {} : { after }) });
        const shown = await this.#shown(asked, found);
        return {
          items: shown.flatMap(({ record }) => (record === undefined ? [] : [describeSecret(record)])),
          corrupt: shown.filter(({ record }) => record === undefined).map(({ name }) => name),
          next: found.length === limit ? found.at(-1)?.name : undefined,
        };
      },
      ({ items }) => ({ additionalEventData: { listed: items.length } }),
    );
  }

  async updateStage(name: string, stage: string, versionId: string | null): Promise<readonly VersionDescription[]> {
    const { door, versions } = this.parts;
    const asked: Asked = {
      operation: 'updateVersionStage',
      resource: secretResource(checkSecretName(name)),
      facts: { versionId: versionId ?? undefined },
      stages: [stage],
      parameters: { stage, versionId },
    };
    const record = await door.write(this.caller, asked, () =>
      versions.change(name, (before) => {
        if (before === undefined) throw new SecretNotFoundError(name);
        if (stage === 'current' && versionId !== null) return { record: this.#moveCurrent(before, versionId) };
        checkCustomStage(before, stage);
        if (versionId !== null) requireVersion(before, versionId);
        return { record: setStage(before, stage, versionId ?? undefined) };
      }),
    );
    if (record === undefined) throw new SecretNotFoundError(name);
    return record.versions.map((version) => describeVersion(record, version));
  }

  update(name: string, options: SecretUpdate): Promise<SecretDescription> {
    const ttlMs = checkTtl(checkSecretName(name), options.ttl);
    const destroyOldAfterMs = checkTtl(name, options.destroyOldAfter, 'destroyOldAfter');
    const { description, type, tags, key } = options;
    let keyId: string | undefined;
    const asked: Asked = {
      operation: 'updateSecret',
      resource: secretResource(name),
      facts: { requestTags: tags },
      parameters: {
        type,
        tags: tags && tagTexts(tags),
        ttlMs,
        destroyOldAfterMs,
        key,
        isDescriptionNew: description !== undefined,
      },
    };
    const edit = (before: SecretRecord): SecretRecord => ({
      ...before,
      description: description ?? before.description,
      type: type ?? before.type,
      tags: tags ?? before.tags,
      ...(ttlMs === undefined ? {} : { ttlMs }),
      ...(destroyOldAfterMs === undefined ? {} : { destroyOldAfterMs }),
      ...(keyId === undefined ? {} : { key: keyId }),
    });
    return this.edit(asked, name, edit, async () => {
      if (key !== undefined) keyId = await this.parts.versions.keys.records.resolve(key);
    });
  }

  tag(name: string, tags: Tags): Promise<SecretDescription> {
    const asked: Asked = {
      operation: 'tagSecret',
      resource: secretResource(checkSecretName(name)),
      facts: { requestTags: tags },
      parameters: { tags: tagTexts(tags) },
    };
    return this.edit(asked, name, (before) => ({ ...before, tags: { ...before.tags, ...tags } }));
  }

  untag(name: string, tagKeys: readonly string[]): Promise<SecretDescription> {
    const asked: Asked = {
      operation: 'untagSecret',
      resource: secretResource(checkSecretName(name)),
      facts: { tagKeys },
      parameters: { tagKeys },
    };
    return this.edit(asked, name, (before) => ({
      ...before,
      tags: Object.fromEntries(Object.entries(before.tags).filter(([key]) => !tagKeys.includes(key))),
    }));
  }

  /** Changes a secret's record, in one commit, once that is allowed and recorded; `first` comes before it. */
  async edit(
    asked: Asked,
    name: string,
    edit: (record: SecretRecord) => SecretRecord,
    first: () => Promise<void> = async () => undefined,
  ): Promise<SecretDescription> {
    const { door, versions, clock } = this.parts;
    const record = await door.write(this.caller, asked, async () => {
      await first();
      return versions.change(name, (before) => {
        if (before === undefined) throw new SecretNotFoundError(name);
        return { record: { ...edit(before), updatedAt: clock.now() } };
      });
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return describeSecret(record);
  }

  async #look<T>(
    operation: Extract<OperationName, 'describeSecret' | 'listVersions'>,
    name: string,
    work: (record: SecretRecord) => Promise<T>,
  ): Promise<T> {
    const { door, versions } = this.parts;
    const asked: Asked = { operation, resource: secretResource(checkSecretName(name)) };
    return door.read(this.caller, asked, async (seen: Seen) => work(seen ?? (await versions.get(name))));
  }

  /** Where policies ask about the secrets themselves, those that may be listed; of a corrupt one nothing is known to decide by. */
  async #shown<T extends { name: string; record: SecretRecord | undefined }>(asked: Asked, found: T[]): Promise<T[]> {
    const { door } = this.parts;
    if ((await door.decide(this.caller, asked)).allowed) return found;
    const shown: T[] = [];
    for (const one of found) {
      if (one.record === undefined) continue;
      const resource = secretResource(one.name, factsOf(one.record));
      if ((await door.decide(this.caller, { operation: asked.operation, resource })).allowed) shown.push(one);
    }
    return shown;
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
}
