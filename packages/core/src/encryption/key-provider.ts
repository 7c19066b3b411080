import { SecretsError } from '../foundation/errors.js';

/** One version of a customer master key. `id` is 1–128 of `A-Z a-z 0-9 / _ + = . @ : -`; versions count from 1. */
export interface CmkRef {
  readonly id: string;
  readonly version: number;
}

const CMK_ID = /^[A-Za-z0-9/_+=.@:-]{1,128}$/;
const LARGEST_CMK_VERSION = 0xffff_ffff;

/** Whether this can name a version of a master key at all. */
export function isCmkRef(cmk: { readonly id: unknown; readonly version: unknown }): cmk is CmkRef {
  const { id, version } = cmk;
  if (typeof id !== 'string' || !CMK_ID.test(id)) return false;
  return typeof version === 'number' && Number.isInteger(version) && version >= 1 && version <= LARGEST_CMK_VERSION;
}

/** Whether whatever holds the master keys answers. */
export interface KeyProviderStatus {
  /** `away`: new data keys cannot be wrapped now, and only those that were unwrapped before are at hand. */
  readonly state: 'available' | 'away';
  /** Since when it is away, in milliseconds since the epoch. */
  readonly since?: number;
  /** Why it is away, without any secret. */
  readonly reason?: string;
}

/**
 * Where customer master keys live. A provider wraps and unwraps data keys (32 bytes) and never gives a master key away. It may answer
 * synchronously, as one that holds its keys in the process does.
 *
 * Errors: `KeyFileError` and its like from `open()`; `KeyMismatchError` when a data key was wrapped under a key this provider does not
 * have, or does not open under it; `KeyProviderError` when it is used before `open()` or after `close()`. One that asks a service also throws
 * `KeyUnavailableError` when it gets no answer, and `KeyRefusedError` when the answer is no.
 */
export interface KeyProvider {
  readonly name: string;
  /** Loads or connects. Called once, before anything else. */
  open(): Promise<void>;
  /** Forgets the keys; may be called twice. */
  close(): Promise<void>;
  /** The key version under which new data keys are wrapped. */
  active(): CmkRef | Promise<CmkRef>;
  /** Wraps a data key; `associatedData` must be given again, byte for byte, to unwrap it. A wrapped key has 1–65,535 bytes. */
  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** The data key, in a buffer the caller owns and zeroes. */
  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer>;
  /** For health; absent where the keys are in the process, and so always at hand. Asks nobody. */
  status?(): KeyProviderStatus;
  /**
   * Every key version it can wrap and unwrap with at this moment, those that others have made since `open()` included. Without it only what `active()`
   * says is known, and a key rotates by pointing the provider to its next version.
   */
  list?(): Promise<readonly CmkRef[]>;
  /**
   * Makes the next version of the key `id`, or version 1 of a new key; durable when it resolves. `active()` need not change: the store says which
   * version wraps. Without it keys are made elsewhere, and `list()` shows them. Needs `list`.
   */
  make?(id?: string): Promise<CmkRef>;
  /** Destroys a key version for good; destroying one that is not there succeeds. Without it that is done elsewhere. */
  destroy?(cmk: CmkRef): Promise<void>;
  /** Of `movingKeys` alone: the provider that is left, and the one that is moved to. */
  readonly moving?: { readonly from: KeyProvider; readonly to: KeyProvider };
}

/** `KEY_PROVIDER_CLOSED`: used before `open()` or after `close()`. `KEY_PROVIDER_INVALID`: it answered what the port does not allow. */
export class KeyProviderError extends SecretsError {
  constructor(code: 'KEY_PROVIDER_CLOSED' | 'KEY_PROVIDER_INVALID', provider: string, message: string) {
    super(code, `The key provider ${provider} ${message}`);
  }
}
