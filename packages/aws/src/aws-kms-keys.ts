import type { KMSClientConfig } from '@aws-sdk/client-kms';
import {
  type KeyProvider,
  KeyProviderError,
  type NamedRemoteKeys,
  type RemoteKeyOptions,
  type RemoteKeySurroundings,
  RemoteKeyNames,
  remoteKeyProvider,
} from '@nestjs-secrets/core';
import { AwsKmsService } from './aws-kms-service.js';

export interface AwsKmsKeysOptions extends RemoteKeyOptions {
  /**
   * The keys by the id that stands in envelopes, each with the ARNs of its versions, oldest first: `{ orders: ['arn:aws:kms:…:key/…'] }`. The last ARN of the
   * first id wraps by default. Symmetric keys; ARNs of keys and not of aliases, since an alias can be pointed elsewhere.
   */
  readonly keys: NamedRemoteKeys;
  /** Region, credentials, endpoint and so on, as the client of the SDK takes them; by default what the SDK finds in its surroundings. */
  readonly client?: KMSClientConfig;
}

const NAME = 'AWS KMS';
const KEY_ARN = /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key\/[A-Za-z0-9-]{1,64}$/;

/**
 * Master keys in AWS KMS. Each data key is wrapped by one call of Encrypt and unwrapped by at most one of Decrypt, both with an encryption context that binds it
 * to its place. Needs `kms:Encrypt` and `kms:Decrypt` on the keys. docs/key-providers.md has the policy and what a call costs.
 * @throws KeyProviderError `KEY_PROVIDER_INVALID` when the options cannot be used
 */
export function awsKmsKeys(options: AwsKmsKeysOptions, surroundings: RemoteKeySurroundings = {}): KeyProvider {
  const { keys, client = {}, ...calls } = options;
  const names = new RemoteKeyNames(NAME, keys);
  const other = names.all().find((name) => !KEY_ARN.test(name));
  if (other !== undefined) {
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      NAME,
      `was given ${JSON.stringify(other)}, which is not the ARN of a key: take it from aws kms describe-key --key-id … --query KeyMetadata.Arn`,
    );
  }
  return remoteKeyProvider(new AwsKmsService(NAME, names, client), calls, surroundings);
}
