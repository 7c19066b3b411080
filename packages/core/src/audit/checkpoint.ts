import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { CheckpointError } from './audit-errors.js';

/** A signed statement of what a log held: text and signature in one, as C2SP `signed-note` has it. */
export interface Checkpoint {
  /** The log it speaks of. */
  readonly origin: string;
  /** How many records the log had. */
  readonly size: number;
  /** The root of the Merkle tree (RFC 6962) over their lines. */
  readonly root: Buffer;
  /** From 1, without a gap. */
  readonly number: number;
  /** When it was made: ISO 8601. */
  readonly time: string;
  /** Further lines of the log's owner; see `CheckpointOptions.extensions`. */
  readonly extensions: readonly string[];
  /** The whole note. */
  readonly note: string;
}

/** Signs checkpoints. `checkpointKeyFile` makes one from a file, `checkpointSigner` from a key object. */
export interface CheckpointSigner {
  /** The name in front of each signature. */
  readonly name: string;
  /** What a verifier needs, in one line (C2SP `signed-note`: name, key id and public key joined by `+`). Print it, and keep it elsewhere. */
  readonly verifierKey: string;
  /** The public key as PEM (SPKI), for `openssl pkeyutl`. */
  readonly publicKeyPem: string;
  sign(text: string): Buffer;
}

const ED25519 = 1;
const SIGNATURE_BYTES = 64;
const KEY_ID_BYTES = 4;
const SIGNATURE_LINE = /^— (\S+) ([A-Za-z0-9+/]+={0,2})$/;
/** Everything before the 32 bytes of an Ed25519 key in SPKI (RFC 8410). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');
const NUMBER_LINE = /^number ([1-9]\d{0,15})$/;
const TIME_LINE = /^time (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)$/;

/**
 * A signer over an Ed25519 private key.
 * @throws CheckpointError when the key is of another kind or the name has a space or a plus in it
 */
export function checkpointSigner(privateKey: KeyObject, name: string): CheckpointSigner {
  if (privateKey.type !== 'private' || privateKey.asymmetricKeyType !== 'ed25519') {
    throw new CheckpointError('Checkpoints are signed with an Ed25519 private key.');
  }
  checkKeyName(name);
  const publicKey = createPublicKey(privateKey);
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_HEAD.length);
  const keyId = keyIdOf(name, raw);
  return {
    name,
    verifierKey: `${name}+${keyId.toString('hex')}+${Buffer.from([ED25519, ...raw]).toString('base64')}`,
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (text) => Buffer.concat([keyId, sign(null, Buffer.from(text), privateKey)]),
  };
}

/** Checks the signatures of one key. */
export interface CheckpointVerifier {
  readonly name: string;
  readonly keyId: Buffer;
  readonly key: KeyObject;
}

/**
 * From the one line a signer prints as its `verifierKey`.
 * @throws CheckpointError
 */
export function checkpointVerifier(verifierKey: string): CheckpointVerifier {
  const [, name = '', keyId = '', encoded = ''] =
    /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(verifierKey) ?? [];
  const key = Buffer.from(encoded, 'base64');
  const raw = key.subarray(1);
  if (key.length !== 33 || key[0] !== ED25519 || keyIdOf(name, raw).toString('hex') !== keyId) {
    throw new CheckpointError(
      'This is not the verifier key of a checkpoint signer: give the whole line, <name>+<key id>+<base64>, as the signer printed it.',
    );
  }
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' });
  return { name, keyId: Buffer.from(keyId, 'hex'), key: publicKey };
}

export interface CheckpointStatement {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
  readonly number: number;
  readonly time: string;
  readonly extensions: readonly string[];
}

/** Signs a statement: C2SP `tlog-checkpoint`, with the number, the time and the owner's lines as extension lines. */
export function signCheckpoint(signer: CheckpointSigner, statement: CheckpointStatement): Checkpoint {
  const { origin, size, root, number, time, extensions } = statement;
  for (const line of extensions) {
    if (!/^[^\p{Cc}]+$/u.test(line) || line.startsWith('— ')) {
      throw new CheckpointError('An extension line of a checkpoint is one line of text without control characters.');
    }
  }
  const lines = [origin, String(size), root.toString('base64'), `number ${number}`, `time ${time}`, ...extensions];
  const text = `${lines.join('\n')}\n`;
  return { ...statement, note: `${text}\n— ${signer.name} ${signer.sign(text).toString('base64')}\n` };
}

/**
 * Opens a note: of the keys known, at least one must have signed it, and no signature of a known one may be wrong (C2SP `signed-note`).
 * @throws CheckpointError
 */
export function openCheckpoint(note: string, verifiers: readonly CheckpointVerifier[]): Checkpoint {
  const split = note.lastIndexOf('\n\n');
  if (split === -1 || !note.endsWith('\n')) throw new CheckpointError('is no signed note');
  const text = note.slice(0, split + 1);
  let isSigned = false;
  for (const line of note.slice(split + 2, -1).split('\n')) {
    const [, name, encoded = ''] = SIGNATURE_LINE.exec(line) ?? [];
    const bytes = Buffer.from(encoded, 'base64');
    // Base64 has bits at its end that mean nothing; a note has one form only.
    const isCanonical = bytes.toString('base64') === encoded;
    if (name === undefined || !isCanonical || bytes.length <= KEY_ID_BYTES)
      throw new CheckpointError('has a malformed signature line');
    const keyId = bytes.subarray(0, KEY_ID_BYTES);
    const verifier = verifiers.find((known) => known.name === name && known.keyId.equals(keyId));
    if (verifier === undefined) continue;
    const signature = bytes.subarray(KEY_ID_BYTES);
    if (signature.length !== SIGNATURE_BYTES || !verify(null, Buffer.from(text), verifier.key, signature)) {
      throw new CheckpointError(`has a signature of ${name} that is wrong`);
    }
    isSigned = true;
  }
  if (!isSigned) throw new CheckpointError('is not signed with the key given');
  return parseCheckpoint(text, note);
}

/** Reads a checkpoint without looking at its signature. @throws CheckpointError */
export function parseCheckpoint(text: string, note: string): Checkpoint {
  const body = text.slice(0, text.indexOf('\n\n') === -1 ? text.length : text.indexOf('\n\n') + 1);
  const [origin = '', size = '', encoded = '', numberLine = '', timeLine = '', ...rest] = body.split('\n');
  const number = NUMBER_LINE.exec(numberLine)?.[1];
  const time = TIME_LINE.exec(timeLine)?.[1];
  const root = Buffer.from(encoded, 'base64');
  if (
    origin === '' ||
    !/^(0|[1-9]\d{0,15})$/.test(size) ||
    root.length !== 32 ||
    number === undefined ||
    time === undefined
  ) {
    throw new CheckpointError('is a note but not a checkpoint of an audit log');
  }
  return { origin, size: Number(size), root, number: Number(number), time, extensions: rest.slice(0, -1), note };
}

function checkKeyName(name: string): void {
  if (/^[^\s+\p{Cc}]+$/u.test(name)) return;
  throw new CheckpointError(
    'The name of a checkpoint key has neither spaces nor plus signs, such as orders.example.com/audit.',
  );
}

function keyIdOf(name: string, rawKey: Uint8Array): Buffer {
  return createHash('sha256')
    .update(`${name}\n`)
    .update(Buffer.from([ED25519]))
    .update(rawKey)
    .digest()
    .subarray(0, KEY_ID_BYTES);
}
