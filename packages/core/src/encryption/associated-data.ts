import type { CmkRef } from './key-provider.js';

/** Which version of which secret an envelope belongs to. Comes from whoever asks, never from stored bytes. */
export interface EnvelopeContext {
  readonly secretName: string;
  readonly versionId: string;
}

const LABEL = 'nestjs-secrets envelope';
const LENGTH_BYTES = 4;

/**
 * Encodes what binds an envelope to its place: label, format, suite, store id, secret name, version id, CMK id, CMK version. Every field that
 * varies in length carries its length in front (4 bytes, big-endian), so that no two places encode alike.
 */
export class AssociatedData {
  readonly #head: Buffer;

  constructor(format: number, suite: number, storeId: string) {
    this.#head = Buffer.alloc(fieldLength(LABEL) + 2 + fieldLength(storeId));
    let offset = writeField(this.#head, LABEL, 0);
    offset = this.#head.writeUInt8(format, offset);
    offset = this.#head.writeUInt8(suite, offset);
    writeField(this.#head, storeId, offset);
  }

  of({ secretName, versionId }: EnvelopeContext, cmk: CmkRef): Buffer {
    const head = this.#head;
    const length = head.length + fieldLength(secretName) + fieldLength(versionId) + fieldLength(cmk.id) + 4;
    // Unsafe is safe here: nothing in it is secret, and every byte gets written.
    const bytes = Buffer.allocUnsafe(length);
    bytes.set(head);
    let offset = writeField(bytes, secretName, head.length);
    offset = writeField(bytes, versionId, offset);
    offset = writeField(bytes, cmk.id, offset);
    bytes.writeUInt32BE(cmk.version, offset);
    return bytes;
  }
}

function fieldLength(field: string): number {
  return LENGTH_BYTES + Buffer.byteLength(field);
}

function writeField(target: Buffer, field: string, offset: number): number {
  const written = target.write(field, offset + LENGTH_BYTES);
  target.writeUInt32BE(written, offset);
  return offset + LENGTH_BYTES + written;
}
