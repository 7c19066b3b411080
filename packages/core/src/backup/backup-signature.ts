import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';

/** What stands before the raw bytes of an Ed25519 key in PKCS #8 and in SubjectPublicKeyInfo (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');
const RAW_BYTES = 32;
const PREFIX = 'ed25519:';
/** So that no signature made here can stand for anything else. */
const PURPOSE = 'nestjs-secrets backup v1\n';

/** Says that backups come from one store. */
export interface BackupSigner {
  /** The public half, as `signedBy` of an import takes it. */
  readonly publicKey: string;
  sign(digest: Uint8Array): Buffer;
}

/** A signer over 32 secret bytes, which may be zeroed afterwards. */
export function backupSigner(seed: Uint8Array): BackupSigner {
  const encoded = Buffer.alloc(PKCS8_HEAD.length + seed.length);
  encoded.set(PKCS8_HEAD);
  encoded.set(seed, PKCS8_HEAD.length);
  const key = createPrivateKey({ key: encoded, format: 'der', type: 'pkcs8' });
  encoded.fill(0);
  const raw = createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(SPKI_HEAD.length);
  return { publicKey: PREFIX + raw.toString('base64url'), sign: (digest) => sign(null, signed(digest), key) };
}

/** The public key behind such a text; undefined for what is none. */
export function parseBackupKey(text: unknown): KeyObject | undefined {
  if (typeof text !== 'string' || !/^ed25519:[A-Za-z0-9_-]{43}$/.test(text)) return undefined;
  const raw = Buffer.from(text.slice(PREFIX.length), 'base64url');
  // One key has one text.
  if (raw.length !== RAW_BYTES || PREFIX + raw.toString('base64url') !== text) return undefined;
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' });
}

export function isBackupSignature(key: KeyObject, digest: Uint8Array, signature: Uint8Array): boolean {
  return verify(null, signed(digest), key, signature);
}

function signed(digest: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(PURPOSE), digest]);
}
