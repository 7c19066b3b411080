import {
  type KeyProvider,
  KeyProviderError,
  type NamedRemoteKeys,
  type RemoteKeyOptions,
  type RemoteKeySurroundings,
  RemoteKeyNames,
  remoteKeyProvider,
} from '@nestjs-secrets/core';
import { AlibabaKmsService } from './alibaba-kms-service.js';
import type { AlibabaClientOptions } from './openapi-client.js';

export type { AlibabaClientOptions } from './openapi-client.js';

export interface AlibabaKmsKeysOptions extends RemoteKeyOptions {
  /**
   * The keys by the id that stands in envelopes, each with the KMS key ids of its versions, oldest first: `{ orders: ['key-hzz…'] }`. The last one of the first
   * id wraps by default. Symmetric keys; key ids and not aliases, since an alias can be pointed elsewhere.
   */
  readonly keys: NamedRemoteKeys;
  readonly client: AlibabaClientOptions;
}

const NAME = 'Alibaba Cloud KMS';
const KEY_ID = /^[A-Za-z0-9-]{8,64}$/;
const DEFAULT_ATTEMPT_MS = 2_000;

/**
 * Master keys in Alibaba Cloud KMS. Each data key is wrapped by one call of Encrypt and unwrapped by at most one of Decrypt, both with an encryption context that binds
 * it to its place. Needs `kms:Encrypt` and `kms:Decrypt` on the keys. docs/key-providers.md has the policy and what a call costs.
 * @throws KeyProviderError `KEY_PROVIDER_INVALID` when the options cannot be used
 */
export function alibabaKmsKeys(options: AlibabaKmsKeysOptions, surroundings: RemoteKeySurroundings = {}): KeyProvider {
  const { keys, client, ...calls } = options;
  const names = new RemoteKeyNames(NAME, keys);
  const other = names.all().find((name) => !KEY_ID.test(name));
  if (other !== undefined) {
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      NAME,
      `was given ${JSON.stringify(other)}, which is not the id of a key: take the KeyId that DescribeKey shows, not an alias or an ARN.`,
    );
  }
  const service = new AlibabaKmsService(NAME, names, client, calls.attemptMs ?? DEFAULT_ATTEMPT_MS);
  return remoteKeyProvider(service, calls, surroundings);
}
