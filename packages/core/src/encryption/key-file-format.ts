import { KEY_BYTES } from './aes-gcm.js';
import { isCmkRef } from './key-provider.js';

/**
 * What a key file holds. Format 1 has one key: `{ "format": 1, "cmkId": …, "versions": [{ "version": 1, "key": base64, "createdAt": ISO 8601 }] }`.
 * Format 2 has several, the default one first: `{ "format": 2, "keys": [{ "cmkId": …, "nextVersion": 3, "versions": […] }] }`.
 */
export interface KeyFile {
  /** The default key first, each with at least one version. */
  readonly keys: readonly KeyFileEntry[];
}

export interface KeyFileEntry {
  readonly cmkId: string;
  /** The number of the next version, which none has had before, also none that was destroyed. */
  readonly nextVersion: number;
  /** By version; the buffers are the caller's to zero. */
  readonly versions: ReadonlyMap<number, KeyFileVersion>;
}

export interface KeyFileVersion {
  readonly key: Buffer;
  /** ISO 8601. */
  readonly createdAt: string;
}

const KEY = /^[A-Za-z0-9+/]{43}=$/;
const MOST_KEYS = 1_000;

/** The bytes of a key file, in a buffer the caller zeroes: format 1 as long as that can say it all. */
export function printKeyFile({ keys }: KeyFile): Buffer {
  const [only] = keys;
  const isOfFormat1 =
    keys.length === 1 && only !== undefined && only.nextVersion === Math.max(...only.versions.keys()) + 1;
  const contents = isOfFormat1
    ? { format: 1, cmkId: only.cmkId, versions: printVersions(only) }
    : {
        format: 2,
        keys: keys.map((entry) => ({
          cmkId: entry.cmkId,
          nextVersion: entry.nextVersion,
          versions: printVersions(entry),
        })),
      };
  return Buffer.from(`${JSON.stringify(contents, undefined, 2)}\n`);
}

/** The key file in these bytes, or what is wrong with them, without quoting any of it. */
export function parseKeyFile(bytes: Buffer): KeyFile | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    // The error of JSON.parse quotes its input, which is a key here.
    return 'is not JSON';
  }
  const { format, keys } = fields(parsed);
  if (format !== 1 && format !== 2) return 'is not a key file of format 1 or 2';
  if (format === 1) {
    const entry = parseEntry(parsed, '');
    return typeof entry === 'string' ? entry : { keys: [entry] };
  }
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > MOST_KEYS) return 'has no `keys`, or too many';
  const entries: KeyFileEntry[] = [];
  for (const [index, one] of keys.entries()) {
    const entry = parseEntry(one, ` of keys[${index}]`);
    if (typeof entry === 'string') return entry;
    if (entries.some(({ cmkId }) => cmkId === entry.cmkId)) return `has the key ${entry.cmkId} twice`;
    entries.push(entry);
  }
  return { keys: entries };
}

function printVersions({ versions }: KeyFileEntry): object[] {
  return [...versions].map(([version, { key, createdAt }]) => ({ version, key: key.toString('base64'), createdAt }));
}

function parseEntry(from: unknown, where: string): KeyFileEntry | string {
  const { cmkId, versions: listed, nextVersion } = fields(from);
  if (typeof cmkId !== 'string' || !isCmkRef({ id: cmkId, version: 1 })) return `has no valid \`cmkId\`${where}`;
  if (!Array.isArray(listed) || listed.length === 0) return `has no \`versions\`${where}`;
  const versions = new Map<number, KeyFileVersion>();
  for (const [index, entry] of listed.entries()) {
    const { version, key, createdAt } = fields(entry);
    if (typeof version !== 'number' || !isCmkRef({ id: cmkId, version }))
      return `has a \`version\` that is out of range, at versions[${index}]${where}`;
    if (versions.has(version)) return `has version ${version} twice${where}`;
    if (typeof key !== 'string' || !KEY.test(key))
      return `has a \`key\` that is not ${KEY_BYTES} bytes in base64, at versions[${index}]${where}`;
    versions.set(version, {
      key: Buffer.from(key, 'base64'),
      createdAt: typeof createdAt === 'string' ? createdAt : '',
    });
  }
  const next = Math.max(...versions.keys()) + 1;
  if (nextVersion === undefined) return { cmkId, nextVersion: next, versions };
  if (typeof nextVersion !== 'number' || !Number.isInteger(nextVersion) || nextVersion < next)
    return `has a \`nextVersion\` that is not above every version${where}`;
  return { cmkId, nextVersion, versions };
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
