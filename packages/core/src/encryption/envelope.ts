import { CorruptRecordError } from '../foundation/errors.js';
import { BOX_OVERHEAD_BYTES } from './aes-gcm.js';
import type { EnvelopeContext } from './associated-data.js';
import { type CmkRef, isCmkRef } from './key-provider.js';

/*
 * An envelope of format 1; integers are big-endian. docs/envelope.md describes it in full.
 *
 *   bytes  what
 *   4      magic "NSEC"
 *   1      format
 *   1      suite
 *   1      length c of the CMK id, 1–128
 *   c      CMK id, ASCII
 *   4      CMK version, from 1
 *   2      length w of the wrapped data key, from 1
 *   w      wrapped data key
 *   32     key commitment
 *   28+n   box: nonce (12), ciphertext (n), tag (16)
 */
const MAGIC = 0x4e534543;
const CMK_ID_OFFSET = 7;
const LONGEST_WRAPPED_KEY = 0xffff;

export const FORMAT = 1;
export const COMMITMENT_BYTES = 32;

/** AES-256-GCM, content key and commitment from SHA-512 of the data key and the associated data. */
export const SUITE_AES_256_GCM = 1;

/** The only suites that are ever acted upon, weakest first. */
export const SUITES: readonly number[] = [SUITE_AES_256_GCM];

/** The parts of an envelope, as views into its bytes. */
export interface EnvelopeParts {
  readonly suite: number;
  readonly cmk: CmkRef;
  readonly wrappedKey: Buffer;
  readonly commitment: Buffer;
  readonly box: Buffer;
}

/**
 * Takes an envelope apart without believing any of it.
 * @throws CorruptRecordError when it is none, or of a format or suite that is unknown or too weak
 */
export function readEnvelope(bytes: Uint8Array, lowestSuite: number, context: EnvelopeContext): EnvelopeParts {
  const refuse = (reason: string): never => {
    throw corruptEnvelope(context, reason);
  };
  const envelope = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (envelope.length <= CMK_ID_OFFSET || envelope.readUInt32BE(0) !== MAGIC) return refuse('it is not an envelope');
  const format = envelope.readUInt8(4);
  const suite = envelope.readUInt8(5);
  const idLength = envelope.readUInt8(6);
  if (format !== FORMAT) return refuse(`its format ${format} is unknown; it may need a newer version of this library`);
  if (!SUITES.includes(suite))
    return refuse(`its suite ${suite} is unknown; it may need a newer version of this library`);
  if (suite < lowestSuite) return refuse(`its suite ${suite} is below the lowest one allowed, ${lowestSuite}`);

  const versionAt = CMK_ID_OFFSET + idLength;
  const wrappedKeyAt = versionAt + 4 + 2;
  if (wrappedKeyAt > envelope.length) return refuse('it ends too early');
  const cmk = { id: envelope.toString('latin1', CMK_ID_OFFSET, versionAt), version: envelope.readUInt32BE(versionAt) };
  if (!isCmkRef(cmk)) return refuse('its master key is not one there can be');
  const commitmentAt = wrappedKeyAt + envelope.readUInt16BE(versionAt + 4);
  const boxAt = commitmentAt + COMMITMENT_BYTES;
  if (commitmentAt === wrappedKeyAt) return refuse('its data key is missing');
  if (boxAt + BOX_OVERHEAD_BYTES > envelope.length) return refuse('it ends too early');
  return {
    suite,
    cmk,
    wrappedKey: envelope.subarray(wrappedKeyAt, commitmentAt),
    commitment: envelope.subarray(commitmentAt, boxAt),
    box: envelope.subarray(boxAt),
  };
}

/** An envelope whose commitment and box are still to be written, the commitment at `offset` and the box right after it. */
export function beginEnvelope(
  suite: number,
  cmk: CmkRef,
  wrappedKey: Uint8Array,
  plaintextLength: number,
): { envelope: Buffer; offset: number } {
  const headLength = CMK_ID_OFFSET + cmk.id.length + 4 + 2 + wrappedKey.length;
  const envelope = Buffer.alloc(headLength + COMMITMENT_BYTES + BOX_OVERHEAD_BYTES + plaintextLength);
  envelope.writeUInt32BE(MAGIC, 0);
  envelope.set([FORMAT, suite, cmk.id.length], 4);
  let offset = CMK_ID_OFFSET + envelope.write(cmk.id, CMK_ID_OFFSET, 'latin1');
  offset = envelope.writeUInt32BE(cmk.version, offset);
  offset = envelope.writeUInt16BE(wrappedKey.length, offset);
  envelope.set(wrappedKey, offset);
  return { envelope, offset: headLength };
}

export function isWrappedKey(wrappedKey: Uint8Array): boolean {
  return wrappedKey.length >= 1 && wrappedKey.length <= LONGEST_WRAPPED_KEY;
}

export function corruptEnvelope(context: EnvelopeContext, reason: string): CorruptRecordError {
  return new CorruptRecordError(
    `The envelope of version ${context.versionId} of ${context.secretName}`,
    reason,
    context.secretName,
  );
}
