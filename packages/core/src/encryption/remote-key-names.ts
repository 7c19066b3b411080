import { hash } from 'node:crypto';
import { KeyMismatchError } from '../foundation/errors.js';
import { type CmkRef, isCmkRef, KeyProviderError } from './key-provider.js';

/**
 * What keys of a service are called here: by the id that stands in envelopes, the names the service knows its versions by, oldest first. Append to a list
 * to rotate; never remove or reorder what has wrapped something.
 */
export type NamedRemoteKeys = Readonly<Record<string, readonly string[]>>;

/** Keys that were made elsewhere and are named in the options of a provider. */
export class RemoteKeyNames {
  /** The first id. */
  readonly defaultKey: string;
  readonly refs: readonly CmkRef[];

  /** @throws KeyProviderError `KEY_PROVIDER_INVALID` */
  constructor(
    private readonly provider: string,
    private readonly keys: NamedRemoteKeys,
  ) {
    const refs = Object.entries(keys).flatMap(([id, names]) => names.map((_, index) => ({ id, version: index + 1 })));
    const [first] = Object.keys(keys);
    if (first === undefined || Object.values(keys).some((names) => names.length === 0))
      throw this.#invalid(
        'has no key, or one without a version: give it keys: { myKey: [name of its first version] }.',
      );
    for (const ref of refs) {
      const { id } = ref;
      if (!isCmkRef(ref))
        throw this.#invalid(`has the key id ${JSON.stringify(id)}: use 1 to 128 of A-Z a-z 0-9 / _ + = . @ : -`);
      // An object puts such names first, whatever the order they were written in, and the first one is the default key.
      if (/^\d+$/.test(id)) throw this.#invalid(`has the key id ${id}: give it at least one letter.`);
    }
    const names = Object.values(keys).flat();
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw this.#invalid(`has the key ${twice} twice: each version is a key of its own.`);
    this.defaultKey = first;
    this.refs = refs;
  }

  /** All names the service knows them by. */
  all(): readonly string[] {
    return Object.values(this.keys).flat();
  }

  /** @throws KeyMismatchError */
  of({ id, version }: CmkRef): string {
    const name = Object.hasOwn(this.keys, id) ? this.keys[id]?.[version - 1] : undefined;
    if (name !== undefined) return name;
    throw new KeyMismatchError(`The key provider ${this.provider} has no version ${version} of a key ${id}.`);
  }

  #invalid(message: string): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_INVALID', this.provider, message);
  }
}

/**
 * Associated data as services take it that bind a wrapped key to a map of strings: their SHA-256, in base64, so that no name of a secret gets into
 * the logs of the service.
 */
export function encryptionContext(associatedData: Uint8Array): Record<string, string> {
  return { 'nestjs-secrets': hash('sha256', Buffer.from(associatedData), 'base64') };
}
