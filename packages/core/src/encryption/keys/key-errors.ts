import { SecretsError } from '../../foundation/errors.js';
import type { CmkRef } from '../key-provider.js';

const named = ({ id, version }: CmkRef): string => `${id} version ${version}`;

/** `KEY_NOT_FOUND`: no master key has this id or alias, or it has no such version. */
export class KeyNotFoundError extends SecretsError {
  constructor(key: string) {
    super('KEY_NOT_FOUND', `There is no master key ${key.slice(0, 200)}. keys.listKeys shows what there is.`);
  }
}

/** `KEY_DISABLED`: the data is there, and opens again once the key is enabled. */
export class KeyDisabledError extends SecretsError {
  constructor(cmk: CmkRef, destroyAt: number | undefined) {
    super(
      'KEY_DISABLED',
      destroyAt === undefined
        ? `The master key ${named(cmk)} is disabled, so what is sealed under it stays closed. Enable it with keys.enable.`
        : `The master key ${named(cmk)} is to be destroyed at ${new Date(destroyAt).toISOString()}, so what is sealed under it stays closed. Keep it with keys.cancelDestruction.`,
    );
  }
}

/** `KEY_DESTROYED`: what was sealed under this key is lost for good, as it was meant to be. */
export class KeyDestroyedError extends SecretsError {
  constructor(cmk: CmkRef) {
    super('KEY_DESTROYED', `The master key ${named(cmk)} was destroyed, and whatever is sealed under it with it.`);
  }
}

/** `KEY_EXHAUSTED`: a key version has wrapped as many data keys as is safe, and there is no next one yet. */
export class KeyExhaustedError extends SecretsError {
  constructor(cmk: CmkRef, limit: number) {
    super(
      'KEY_EXHAUSTED',
      `The master key ${named(cmk)} has wrapped ${limit} data keys, which is the most that is safe; nothing was sealed. Rotate it with keys.rotateKey; keys.describeKey says what keeps its next version from being used.`,
    );
  }
}

/** `KEY_INACTIVE`: the key has no active version. */
export class KeyInactiveError extends SecretsError {
  constructor(id: string) {
    super(
      'KEY_INACTIVE',
      `The master key ${id} has no active version, so nothing can be sealed under it. Enable it with keys.enable, or make a new version with keys.rotateKey.`,
    );
  }
}

/** `KEY_IN_USE`: secrets, or the alias `default`, still stand on the key. */
export class KeyInUseError extends SecretsError {
  constructor(message: string) {
    super('KEY_IN_USE', message);
  }
}

/** `KEY_NOT_PUBLISHED`: a new version is not used yet, since these instances cannot open what it wraps. */
export class KeyNotPublishedError extends SecretsError {
  readonly instances: readonly string[];

  constructor(cmk: CmkRef, instances: readonly string[]) {
    super(
      'KEY_NOT_PUBLISHED',
      `The master key ${named(cmk)} is made but not used yet: the instances ${instances.join(', ')} have not shown that they can open what it wraps. Give them the key (copy the key file, grant the permission); it becomes active by itself as soon as they have it.`,
    );
    this.instances = instances;
  }
}

/** `KEY_UNSUPPORTED`: the key provider cannot do this itself. */
export class KeyUnsupportedError extends SecretsError {
  constructor(provider: string, message: string) {
    super('KEY_UNSUPPORTED', `The key provider ${provider} ${message}`);
  }
}

/** `KEY_REQUEST_INVALID`: an alias, a window or a change of state that cannot be. */
export class KeyRequestError extends SecretsError {
  constructor(message: string) {
    super('KEY_REQUEST_INVALID', message);
  }
}
