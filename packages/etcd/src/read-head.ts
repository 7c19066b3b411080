import type { RemoteAnswer } from '@nestjs-secrets/core';
import type { EtcdGateway } from './etcd-gateway.js';
import { revisionIn, type RangeResponse } from './gateway-messages.js';
import type { StoreKeys } from './store-keys.js';

/** The store's revision; 0 for a store never written. */
export async function readHead(gateway: EtcdGateway, keys: StoreKeys): Promise<RemoteAnswer<number>> {
  const response = await gateway.call<RangeResponse>('/v3/kv/range', { key: keys.head, keys_only: true });
  return { revision: revisionIn(response), result: Number(response.kvs?.[0]?.mod_revision ?? 0) };
}
