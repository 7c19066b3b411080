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
    const fields = [context.secretName, context.versionId, cmk.id];
    let length = 4;
    for (const field of fields) length += 4 + Buffer.byteLength(field);
    const tail = Buffer.allocUnsafe(length);
    let offset = 0;
    for (const field of fields) offset = writeField(tail, field, offset);
    tail.writeUInt32BE(cmk.version, offset);
    return { wrap: Buffer.concat([this.#wrapHead, tail]), body: Buffer.concat([this.#bodyHead, tail]) };
  }
}

function head(label: string, format: number, suite: number, storeId: string): Buffer {
  const bytes = Buffer.alloc(4 + Buffer.byteLength(label) + 2 + 4 + Buffer.byteLength(storeId));
  let offset = writeField(bytes, label, 0);
  offset = bytes.writeUInt8(format, offset);
  offset = bytes.writeUInt8(suite, offset);
  writeField(bytes, storeId, offset);
  return bytes;
}

function writeField(target: Buffer, field: string, offset: number): number {
  const written = target.write(field, offset + 4);
  target.writeUInt32BE(written, offset);
  return offset + 4 + written;
}
