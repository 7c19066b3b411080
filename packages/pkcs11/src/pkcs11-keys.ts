import {
  cryptoRandomness,
  isCmkRef,
  type KeyProvider,
  KeyProviderError,
  type RemoteKeyOptions,
  type RemoteKeySurroundings,
  remoteKeyProvider,
} from '@nestjs-secrets/core';
import { Pkcs11Service } from './pkcs11-service.js';
import type { Pkcs11TokenOptions } from './pkcs11-token.js';

export interface Pkcs11KeysOptions extends Pkcs11TokenOptions, RemoteKeyOptions {
  /** The id of the key that wraps by default, as it stands in envelopes. Never change it. */
  readonly id: string;
  /**
   * Whether `open()` makes that key in the token when it is not there. `'if-missing'` by default; `'never'` by default when `NODE_ENV` is `production`, since a
   * new key where the old one is missing only hides the loss.
   */
  readonly create?: 'never' | 'if-missing';
  /** As of every provider that calls, but 2 by default: each call occupies one of the few threads Node has for such things (`UV_THREADPOOL_SIZE`). */
  readonly concurrency?: number;
}

const DEFAULT_CONCURRENCY = 2;

/**
 * Master keys in a PKCS#11 token, such as an HSM: AES-256 keys that never leave it (`CKA_SENSITIVE`, not `CKA_EXTRACTABLE`) and wrap data keys by AES-GCM within it.
 * A token that was unplugged, or has lost its sessions, is connected to and logged in to again by itself. A PIN that was refused is tried once. Needs `pkcs11js`.
 * @throws KeyProviderError `KEY_PROVIDER_INVALID` when the options cannot be used
 */
export function pkcs11Keys(options: Pkcs11KeysOptions, surroundings: RemoteKeySurroundings = {}): KeyProvider {
  const { library, token, pin, id, create = byEnvironment(), concurrency = DEFAULT_CONCURRENCY, ...calls } = options;
  const name = `PKCS#11 token ${token}`;
  if (!isCmkRef({ id, version: 1 }) || id.length > LONGEST_ID)
    throw new KeyProviderError(
      'KEY_PROVIDER_INVALID',
      name,
      'has an id that cannot be one: use 1 to 100 of A-Z a-z 0-9 / _ + = . @ : -',
    );
  const service = new Pkcs11Service(
    name,
    { library, token, pin, id, create },
    surroundings.randomness ?? cryptoRandomness,
  );
  return remoteKeyProvider(service, { ...calls, concurrency }, surroundings);
}

/** Some tokens cut labels off. */
const LONGEST_ID = 100;

function byEnvironment(): 'never' | 'if-missing' {
  return process.env.NODE_ENV === 'production' ? 'never' : 'if-missing';
}
