import { KEY_BYTES } from './aes-gcm.js';
import { isCmkRef } from './key-provider.js';

/** What a key file holds: `{ "format": 1, "cmkId": …, "versions": [{ "version": 1, "key": base64, "createdAt": ISO 8601 }] }`. */
export interface KeyFile {
  readonly cmkId: string;
  /** By version; the buffers are the caller's to zero. */
  readonly keys: ReadonlyMap<number, Buffer>;
}

const KEY = /^[A-Za-z0-9+/]{43}=$/;

/** A key file with one version, in a buffer the caller zeroes. */
export function printKeyFile(cmkId: string, key: Buffer, createdAt: Date): Buffer {
  const versions = [{ version: 1, key: key.toString('base64'), createdAt: createdAt.toISOString() }];
  return Buffer.from(`${JSON.stringify({ format: 1, cmkId, versions }, undefined, 2)}\n`);
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
  const { format, cmkId, versions } = fields(parsed);
  if (format !== 1) return 'is not a key file of format 1';
  if (typeof cmkId !== 'string' || !isCmkRef({ id: cmkId, version: 1 })) return 'has no valid `cmkId`';
  if (!Array.isArray(versions) || versions.length === 0) return 'has no `versions`';
  const keys = new Map<number, Buffer>();
  for (const [index, entry] of versions.entries()) {
    const { version, key } = fields(entry);
    if (typeof version !== 'number' || !isCmkRef({ id: cmkId, version }))
      return `has a \`version\` that is out of range, at versions[${index}]`;
    if (keys.has(version)) return `has version ${version} twice`;
    if (typeof key !== 'string' || !KEY.test(key))
      return `has a \`key\` that is not ${KEY_BYTES} bytes in base64, at versions[${index}]`;
    keys.set(version, Buffer.from(key, 'base64'));
  }
  return { cmkId, keys };
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
