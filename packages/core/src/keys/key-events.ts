import type { CmkRef } from '../encryption/key-provider.js';

/** What happens to master keys in this process, for operators and dashboards; nothing is replayed. Times are milliseconds since the epoch. */
export type KeyEvent = { readonly at: number } & (
  | { readonly type: 'created'; readonly cmk: CmkRef }
  /** A new version is made and not used before `instances` can open what it wraps; told again whenever others are missing. */
  | { readonly type: 'publishing'; readonly cmk: CmkRef; readonly instances: readonly string[] }
  | { readonly type: 'activated'; readonly cmk: CmkRef }
  /** This instance does not have a key version that others want to use. */
  | { readonly type: 'missing-here'; readonly cmk: CmkRef; readonly message: string }
  /** A version has wrapped as much as it should, and the next one was asked for. */
  | { readonly type: 'wrap-limit'; readonly cmk: CmkRef }
  | { readonly type: 'disabled' | 'enabled' | 'destruction-cancelled'; readonly id: string; readonly version?: number }
  | {
      readonly type: 'destruction-scheduled';
      readonly id: string;
      readonly version?: number;
      readonly destroyAt: number;
    }
  /** It would take data with it, and was put off: see `keys.rewrap` and the option `shred`. */
  | {
      readonly type: 'destruction-held';
      readonly cmk: CmkRef;
      readonly until: number;
      readonly inUse: readonly string[];
    }
  /** `byProvider` false: the key provider cannot destroy keys, so somebody has to, there. */
  | { readonly type: 'destroyed'; readonly cmk: CmkRef; readonly byProvider: boolean }
  | ({ readonly type: 'rewrapped' } & RewrapReport)
  /** Nothing is sealed under a key of the old provider any more; `to` has taken its place. */
  | { readonly type: 'moved'; readonly id: string; readonly to: string }
  /** Something in the background did not work and is tried again. */
  | { readonly type: 'failed'; readonly what: string; readonly message: string }
);

/** What sealing anew has come to. */
export interface RewrapReport {
  /** The id of a key, the name of a secret, or `*` for everything. */
  readonly scope: string;
  /** Values that were looked at. */
  readonly seen: number;
  /** Values that were sealed anew; the others were under the active version of their key. */
  readonly resealed: number;
  /** Values that could not be opened. They stay as they are. */
  readonly failed: number;
  /** The first of those, as `name:version`. */
  readonly failures: readonly string[];
}

/** The report alone, of something that has it among other things. */
export function reportOf({ scope, seen, resealed, failed, failures }: RewrapReport): RewrapReport {
  return { scope, seen, resealed, failed, failures };
}
