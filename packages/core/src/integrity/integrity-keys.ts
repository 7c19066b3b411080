import { hkdfSync } from 'node:crypto';
import { StoreClosedError } from '../foundation/errors.js';
import { HmacKey } from '../foundation/hmac-key.js';

/** The bytes of the key from which all others here are derived. */
export const STORE_ROOT_KEY_BYTES = 32;
/** Tags of records and nodes are cut to 128 bits, that of the root is whole (RFC 2104, §5). */
export const TAG_BYTES = 16;

/** One key for each kind of thing that is MACed, so that none can pass for another. */
export interface IntegrityKeys {
  readonly record: HmacKey;
  readonly node: HmacKey;
  readonly root: HmacKey;
}

/** Derives the keys of one store (HKDF, RFC 5869), and leaves `rootKey` to the caller to zero. */
export function deriveIntegrityKeys(rootKey: Uint8Array, storeId: string): IntegrityKeys {
  const derive = (use: string): HmacKey => {
    const key = Buffer.from(hkdfSync('sha256', rootKey, storeId, `nestjs-secrets integrity ${use} 1`, 32));
    try {
      return new HmacKey(key, () => new StoreClosedError('integrity'));
    } finally {
      key.fill(0);
    }
  };
  return { record: derive('record'), node: derive('node'), root: derive('root') };
}

/** Overwrites the keys. */
export function endIntegrityKeys({ record, node, root }: IntegrityKeys): void {
  for (const key of [record, node, root]) key.end();
}
