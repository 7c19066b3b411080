import { isDeepStrictEqual } from 'node:util';
import { CorruptRecordError, InvalidSecretValueError, ValueTooLargeError } from '../foundation/errors.js';

/** The most bytes a value may have once encoded, unless stated otherwise. */
export const VALUE_LIMIT_BYTES = 65_536;

const JSON_TAG = 0x6a;
const BINARY_TAG = 0x62;

/**
 * The bytes that are sealed for a value: one byte that says how to read the rest, then JSON in UTF-8, or the bytes of a `Uint8Array`.
 * @throws InvalidSecretValueError when JSON cannot carry the value
 * @throws ValueTooLargeError
 */
export function encodeValue(secretName: string, value: unknown, limitBytes = VALUE_LIMIT_BYTES): Buffer {
  const binary = value instanceof Uint8Array;
  const body = binary ? value : Buffer.from(toJson(secretName, value), 'utf8');
  if (body.length > limitBytes) throw new ValueTooLargeError(secretName, body.length, limitBytes);
  const encoded = Buffer.alloc(1 + body.length);
  encoded[0] = binary ? BINARY_TAG : JSON_TAG;
  encoded.set(body, 1);
  if (!binary) body.fill(0);
  return encoded;
}

/** The value behind encoded bytes, frozen through and through so that no reader can change what another one sees. */
export function decodeValue(secretName: string, encoded: Buffer): unknown {
  const body = encoded.subarray(1);
  if (encoded[0] === BINARY_TAG) return Uint8Array.prototype.slice.call(body);
  if (encoded[0] !== JSON_TAG)
    throw new CorruptRecordError(`A version of ${secretName}`, 'its kind of value is unknown', secretName);
  try {
    return deepFreeze(JSON.parse(body.toString('utf8')));
  } catch {
    // JSON.parse quotes its input in the message, so its error must not travel.
    throw new CorruptRecordError(`A version of ${secretName}`, 'its value is not JSON', secretName);
  }
}

/** Whether two encoded values mean the same: binary byte by byte, JSON without regard to the order of keys. */
export function sameValue(secretName: string, one: Buffer, other: Buffer): boolean {
  return one[0] === other[0] && isDeepStrictEqual(decodeValue(secretName, one), decodeValue(secretName, other));
}

function toJson(secretName: string, value: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch {
    json = undefined;
  }
  if (json !== undefined) return json;
  throw new InvalidSecretValueError(
    secretName,
    `The value for ${secretName} is ${value === undefined ? 'undefined' : 'nothing JSON can carry'}: give a string, a number, a boolean, null, a plain object or array of these, or a Uint8Array.`,
  );
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part);
  }
  return value;
}
