import { OWN_PREFIX } from './entry-kinds.js';
import { type IntegrityKeys, TAG_BYTES } from './integrity-keys.js';

/*
 * The root of the manifest; integers are big-endian.
 *
 *   bytes  what
 *   1      format
 *   1      suite
 *   4      generation of the tree: which of the trees in the store is meant
 *   8      sequence: counts the changes of the store
 *   16     digest of the top node
 *   32     MAC over all of these
 */
const FORMAT = 1;
const SUITE = 1;
const BODY_BYTES = 1 + 1 + 4 + 8 + TAG_BYTES;
const MAC_BYTES = 32;
export const ROOT_BYTES = BODY_BYTES + MAC_BYTES;

/** The root, what changes compete for. */
export const ROOT_KEY = `${OWN_PREFIX}root`;
/** The top node of the tree, behind a copy of the root, so that neither is lost with the other. */
export const TOP_KEY = `${OWN_PREFIX}top`;
export const NODE_PREFIX = `${OWN_PREFIX}node/`;

export interface ManifestRoot {
  readonly generation: number;
  readonly sequence: number;
  readonly digest: Buffer;
  readonly mac: Buffer;
}

/** The key of a node; the top node has one of its own. */
export function nodeKey(generation: number, path: string): string {
  return path === '' ? TOP_KEY : `${NODE_PREFIX}${generation}/${path}`;
}

export function signRoot(keys: IntegrityKeys, parts: Omit<ManifestRoot, 'mac'>): ManifestRoot & { encoded: Buffer } {
  const encoded = Buffer.allocUnsafe(ROOT_BYTES);
  encoded[0] = FORMAT;
  encoded[1] = SUITE;
  encoded.writeUInt32BE(parts.generation, 2);
  encoded.writeUInt32BE(Math.floor(parts.sequence / 0x1_0000_0000), 6);
  encoded.writeUInt32BE(parts.sequence >>> 0, 10);
  encoded.set(parts.digest, 14);
  keys.root.write(encoded, BODY_BYTES, MAC_BYTES, encoded.subarray(0, BODY_BYTES));
  const { generation, sequence, digest } = parts;
  return { generation, sequence, digest, mac: encoded.subarray(BODY_BYTES), encoded };
}

/** Undefined for what was not signed under this key. */
export function readRoot(keys: IntegrityKeys, stored: Uint8Array): ManifestRoot | undefined {
  if (stored.length !== ROOT_BYTES || stored[0] !== FORMAT || stored[1] !== SUITE) return undefined;
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const tag = bytes.subarray(BODY_BYTES);
  if (!keys.root.proves(tag, bytes.subarray(0, BODY_BYTES))) return undefined;
  return {
    generation: bytes.readUInt32BE(2),
    sequence: bytes.readUInt32BE(6) * 0x1_0000_0000 + bytes.readUInt32BE(10),
    digest: bytes.subarray(14, 14 + TAG_BYTES),
    mac: tag,
  };
}
