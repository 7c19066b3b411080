import { describe, expect, it } from '@jest/globals';
import { deriveIntegrityKeys, endIntegrityKeys } from '../src/integrity/integrity-keys.js';

describe('the keys of a store', () => {
  it('are of their own for each store and each kind of thing', () => {
    const macs = ['a', 'b'].flatMap((storeId) => {
      const { record, node, root } = deriveIntegrityKeys(Buffer.alloc(32, 1), storeId);
      return [record, node, root].map((key) => key.mac(Buffer.from('x')));
    });
    expect(new Set(macs).size).toBe(6);
  });

  it('prove and disprove nothing any more once the store is closed', () => {
    const keys = deriveIntegrityKeys(Buffer.alloc(32, 1), 'a');
    endIntegrityKeys(keys);
    for (const key of Object.values(keys))
      expect(() => key.proves(Buffer.alloc(16), Buffer.from('x'))).toThrow(
        expect.objectContaining({ code: 'STORE_CLOSED' }),
      );
  });
});
