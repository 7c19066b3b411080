import type { EntryKind } from './entry-kinds.js';
import { type IntegrityKeys, TAG_BYTES } from './integrity-keys.js';

/*
 * A sealed record: what was written, and after it
 *
 *   bytes  what
 *   8      sequence of the change of the manifest that wrote it, big-endian; 0 where the manifest does not list it
 *   1      suite
 *   1      format
 *   16     tag
 *
 * The tag is over the key of the entry, all of these, and what was written.
 */
const TRAILER_BYTES = 8 + 1 + 1;
export const SEAL_BYTES = TRAILER_BYTES + TAG_BYTES;
const FORMAT = 1;
/** HMAC-SHA-256, cut to 128 bits. */
const SUITE = 1;

/** What a stored value turned out to be. */
export type OpenedRecord =
  | { readonly state: 'authentic'; readonly payload: Uint8Array; readonly sequence: number; readonly tag: Buffer }
  | { readonly state: 'changed' | 'downgraded' };

/** A write whose value, unless it is plain, has room for its seal, and belongs to nobody else. */
export interface SealableWrite {
  readonly key: string;
  readonly kind: EntryKind;
  readonly value: Buffer | null;
}

/** A copy of what is to be written, with room for its seal. */
export function roomForSeal(payload: Uint8Array): Buffer {
  const room = Buffer.allocUnsafe(payload.length + SEAL_BYTES);
  room.set(payload);
  return room;
}

/** Seals what `roomForSeal` made, also when it was sealed before, and returns the tag by which the manifest knows it. */
export function sealInPlace({ record }: IntegrityKeys, key: string, value: Buffer, sequence: number): Buffer {
  const end = value.length - TAG_BYTES;
  const at = end - TRAILER_BYTES;
  value.writeUInt32BE(Math.floor(sequence / 0x1_0000_0000), at);
  value.writeUInt32BE(sequence >>> 0, at + 4);
  value[end - 2] = SUITE;
  value[end - 1] = FORMAT;
  record.write(value, end, TAG_BYTES, headOf(key), value.subarray(0, end));
  return value.subarray(end);
}

/** The bytes to store for `payload` under `key`, and the tag by which the manifest knows them. */
export function sealRecord(
  keys: IntegrityKeys,
  key: string,
  payload: Uint8Array,
  sequence: number,
): { readonly value: Buffer; readonly tag: Buffer } {
  const value = roomForSeal(payload);
  return { value, tag: sealInPlace(keys, key, value, sequence) };
}

export function openRecord({ record }: IntegrityKeys, key: string, stored: Uint8Array): OpenedRecord {
  const length = stored.length - SEAL_BYTES;
  if (length < 0) return { state: 'downgraded' };
  const value = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const end = length + TRAILER_BYTES;
  if (value[end - 2] !== SUITE || value[end - 1] !== FORMAT) return { state: 'downgraded' };
  const tag = value.subarray(end);
  if (!record.proves(tag, headOf(key), value.subarray(0, end))) return { state: 'changed' };
  const sequence = value.readUInt32BE(length) * 0x1_0000_0000 + value.readUInt32BE(length + 4);
  return { state: 'authentic', payload: stored.subarray(0, length), sequence, tag };
}

/**
 * What was written, without a look at who wrote it: for tools that only show what a store holds. Whoever acts on it reads through `SealedStore`.
 */
export function recordPayload(stored: Uint8Array): Uint8Array {
  const length = stored.length - SEAL_BYTES;
  const isSealed = length >= 0 && stored[length + TRAILER_BYTES - 1] === FORMAT;
  return isSealed ? stored.subarray(0, length) : stored;
}

function headOf(key: string): Buffer {
  const head = Buffer.allocUnsafe(2 + key.length);
  head.writeUInt16BE(key.length);
  head.write(key, 2, 'latin1');
  return head;
}
