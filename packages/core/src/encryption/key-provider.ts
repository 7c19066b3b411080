/** One version of a customer master key. `id` is 1–128 of `A-Z a-z 0-9 / _ + = . @ : -`; versions count from 1. */
export interface CmkRef {
  readonly id: string;
  readonly version: number;
}

/**
 * Where customer master keys live. A provider wraps and unwraps data keys (32 bytes) and never gives a master key away. It may answer
 * synchronously, as one that holds its keys in the process does.
 *
 * Errors: `KeyFileError` and its like from `open()`; `KeyMismatchError` when a data key was wrapped under a key this provider does not
 * have, or does not open under it.
 */
export interface KeyProvider {
  readonly name: string;
  /** Loads or connects. Called once, before anything else. */
  open(): Promise<void>;
  /** Forgets the keys; may be called twice. */
  close(): Promise<void>;
  /** The key version under which new data keys are wrapped. */
  active(): CmkRef | Promise<CmkRef>;
  /** Wraps a data key; `associatedData` must be given again, byte for byte, to unwrap it. */
  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** The data key, in a buffer the caller owns and zeroes. */
  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer>;
}
