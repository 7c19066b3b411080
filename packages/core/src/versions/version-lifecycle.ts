import { findVersion, type SecretRecord, type VersionRecord } from './secret-record.js';

/** How long before a version expires it is told, in milliseconds, longest first: 7 days, 1 day, 1 hour. */
export const DEFAULT_EXPIRY_WARNINGS: readonly number[] = [7 * 86_400_000, 86_400_000, 3_600_000];

/** What has come due for a version of a secret. */
export type VersionNotice =
  | { readonly kind: 'expiring' | 'expired'; readonly versionId: string; readonly expiresAt: number }
  | { readonly kind: 'destroyed'; readonly versionId: string };

interface Warning {
  readonly at: number;
  readonly lead: number;
}

/**
 * Says when versions that lost their last stage are to be destroyed, where the secret asks for that, and takes it back for those that have one again. One
 * that still has to be retired stays until it is.
 */
export function planDestructions(record: SecretRecord, now: number): SecretRecord {
  const staged = stagedIds(record);
  const versions = record.versions.map((version) => {
    const isKept = staged.has(version.id) || isBusy(version);
    if (isKept && version.destroyAt !== undefined) {
      const { destroyAt: _kept, ...rest } = version;
      return rest;
    }
    if (isKept || version.destroyAt !== undefined || record.destroyOldAfterMs === undefined) return version;
    return { ...version, destroyAt: now + record.destroyOldAfterMs };
  });
  return versions.every((version, index) => version === record.versions[index]) ? record : { ...record, versions };
}

/** Has one version destroyed at a time of its own. It must have no stage and nothing left to be retired. */
export function destroyVersionAt(record: SecretRecord, versionId: string, destroyAt: number): SecretRecord {
  return mapVersion(record, versionId, (version) => ({ ...version, destroyAt }));
}

/** Whether something points at a version, or its retirement is still to come. */
export function isVersionInUse(record: SecretRecord, versionId: string): boolean {
  const version = findVersion(record, versionId);
  return stagedIds(record).has(versionId) || (version !== undefined && isBusy(version));
}

/** When something of a secret comes due next: its removal, the destruction of a version, a warning, an end. */
export function recordDueAt(record: SecretRecord, warnings: readonly number[]): number | undefined {
  const times = record.versions.flatMap(({ destroyAt }) => destroyAt ?? []);
  if (record.deletion === undefined) {
    const staged = stagedIds(record);
    for (const version of record.versions)
      if (staged.has(version.id)) times.push(...nextWarnings(version, warnings).map(({ at }) => at));
  } else times.push(record.deletion.purgeAt);
  return times.length === 0 ? undefined : Math.min(...times);
}

/** What has come due by now, and the record once that is done. Of warnings that were missed only the latest is given. */
export function settleDue(
  record: SecretRecord,
  now: number,
  warnings: readonly number[],
): { readonly record: SecretRecord; readonly notices: readonly VersionNotice[] } {
  const notices: VersionNotice[] = [];
  const staged = stagedIds(record);
  const versions = record.versions.flatMap((version) => {
    if (version.destroyAt !== undefined && version.destroyAt <= now && !staged.has(version.id) && !isBusy(version)) {
      notices.push({ kind: 'destroyed', versionId: version.id });
      return [];
    }
    if (record.deletion !== undefined || !staged.has(version.id) || version.expiresAt === undefined) return [version];
    const latest = nextWarnings(version, warnings)
      .filter(({ at }) => at <= now)
      .at(-1);
    if (latest === undefined) return [version];
    const kind = latest.lead === 0 ? 'expired' : 'expiring';
    notices.push({ kind, versionId: version.id, expiresAt: version.expiresAt });
    return [{ ...version, warned: latest.lead }];
  });
  return notices.length === 0 ? { record, notices } : { record: { ...record, versions }, notices };
}

/** The warnings of a version that were not given yet, its end included, earliest first. */
function nextWarnings({ createdAt, expiresAt, warned }: VersionRecord, warnings: readonly number[]): Warning[] {
  if (expiresAt === undefined) return [];
  const lifetime = expiresAt - createdAt;
  return [...warnings, 0]
    .filter((lead) => lead < lifetime && lead < (warned ?? Number.POSITIVE_INFINITY))
    .toSorted((one, other) => other - one)
    .map((lead) => ({ at: expiresAt - lead, lead }));
}

function stagedIds(record: SecretRecord): ReadonlySet<string> {
  return new Set(record.stages.map(([, id]) => id));
}

function isBusy({ state }: VersionRecord): boolean {
  return state === 'draining' || state === 'retiring';
}

function mapVersion(
  record: SecretRecord,
  versionId: string,
  edit: (version: VersionRecord) => VersionRecord,
): SecretRecord {
  return { ...record, versions: record.versions.map((one) => (one.id === versionId ? edit(one) : one)) };
}
