import type { UseCounter } from '../audit/use-counts.js';
import { VersionNotFoundError } from '../foundation/errors.js';
import { requireUndeleted } from './requests.js';
import { versionAt, type SecretRecord, type VersionRecord } from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';

/** A version of a secret as it is delivered to a handle. `value` has been decoded but not yet checked against a schema. */
export interface SecretSnapshot {
  readonly name: string;
  readonly versionId: string;
  readonly value: unknown;
  /** Grows by one each time `current` moves, backwards moves included: of two snapshots the one with the higher number is the newer. */
  readonly promotion: number;
  /** True when this move put `current` back to an older version. */
  readonly rolledBack: boolean;
  /** After this time (milliseconds since the epoch) the value must not be handed out. */
  readonly expiresAt: number | undefined;
  /** Counts what is made of it, where the source keeps count: whoever uses the value adds to it. */
  readonly uses?: UseCounter;
}

export interface SecretCandidates {
  readonly snapshots: readonly SecretSnapshot[];
  /** The ids of those that were replaced and are to be retired. */
  readonly replaced: readonly string[];
}

/** Reads for live handles: what is current, and what else may open the target at this moment. */
export class SecretReader {
  constructor(private readonly versions: VersionStore) {}

  /** @throws SecretNotFoundError, SecretDeletedError, VersionNotFoundError when nothing is current yet */
  async current(name: string): Promise<SecretSnapshot> {
    const record = requireUndeleted(await this.versions.get(name));
    const version = versionAt(record, 'current');
    if (version === undefined) throw new VersionNotFoundError(name, 'current version');
    return this.#snapshot(record, version);
  }

  /**
   * Current, pending and previous, as far as they are allowed, without those whose retirement has begun: a connection opened with one of these would
   * be ended.
   * @throws SecretNotFoundError
   */
  async candidates(name: string, isAllowed: (stage: string) => boolean): Promise<SecretCandidates> {
    const record = requireUndeleted(await this.versions.get(name));
    const stages = ['current', 'pending', 'previous'].filter((stage) => isAllowed(stage));
    const versions = stages.flatMap((stage) => versionAt(record, stage) ?? []);
    const usable = versions.filter(({ state }) => state === 'live' || state === 'draining');
    return {
      snapshots: await Promise.all(usable.map((version) => this.#snapshot(record, version))),
      replaced: usable.filter(({ state }) => state === 'draining').map(({ id }) => id),
    };
  }

  async #snapshot(record: SecretRecord, version: VersionRecord): Promise<SecretSnapshot> {
    const { name, promotion, rolledBack } = record;
    const value = await this.versions.openValue(name, version.id);
    return { name, versionId: version.id, value, promotion, rolledBack, expiresAt: version.expiresAt };
  }
}
