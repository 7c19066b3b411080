import type { CmkRef } from './key-provider.js';

/** Which version of which secret an envelope belongs to. Comes from whoever asks, never from stored bytes. */
export interface EnvelopeContext {
  readonly secretName: string;
  readonly versionId: string;
}

/** The associated data of one envelope: for the wrapped data key, and for the body. */
export interface Binding {
  readonly wrap: Buffer;
  readonly body: Buffer;
}

const WRAP_LABEL = 'nestjs-secrets envelope wrap';
const BODY_LABEL = 'nestjs-secrets envelope body';
const LENGTH_BYTES = 4;

/**
 * Encodes what binds an envelope to its place: label, format, suite, store id, secret name, version id, CMK id, CMK version. Every field that
 * varies in length carries its length in front (4 bytes, big-endian), so that no two places encode alike.
 */
export class AssociatedData {
  readonly #wrapHead: Buffer;
  readonly #bodyHead: Buffer;

  constructor(format: number, suite: number, storeId: string) {
    this.#wrapHead = head(WRAP_LABEL, format, suite, storeId);
    this.#bodyHead = head(BODY_LABEL, format, suite, storeId);
  }

  bind(context: EnvelopeContext, cmk: CmkRef): Binding {
    const { secretName, versionId } = context;
    const tailLength =
      3 * LENGTH_BYTES + Buffer.byteLength(secretName) + Buffer.byteLength(versionId) + Buffer.byteLength(cmk.id) + 4;
    const wrapLength = this.#wrapHead.length + tailLength;
    // Both in one allocation, and unsafe is safe: nothing here is secret and every byte gets written.
    const both = Buffer.allocUnsafe(wrapLength + this.#bodyHead.length + tailLength);
    both.set(this.#wrapHead);
    let offset = writeField(both, secretName, this.#wrapHead.length);
    offset = writeField(both, versionId, offset);
    offset = writeField(both, cmk.id, offset);
    both.writeUInt32BE(cmk.version, offset);
    both.set(this.#bodyHead, wrapLength);
    both.copyWithin(wrapLength + this.#bodyHead.length, this.#wrapHead.length, wrapLength);
    return { wrap: both.subarray(0, wrapLength), body: both.subarray(wrapLength) };
  }
}

function head(label: string, format: number, suite: number, storeId: string): Buffer {
  const bytes = Buffer.alloc(2 * LENGTH_BYTES + Buffer.byteLength(label) + 2 + Buffer.byteLength(storeId));
  let offset = writeField(bytes, label, 0);
  offset = bytes.writeUInt8(format, offset);
  offset = bytes.writeUInt8(suite, offset);
  writeField(bytes, storeId, offset);
  return bytes;
}

function writeField(target: Buffer, field: string, offset: number): number {
  const written = target.write(field, offset + LENGTH_BYTES);
  target.writeUInt32BE(written, offset);
  return offset + LENGTH_BYTES + written;
}
