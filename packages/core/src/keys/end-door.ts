import type { CmkRef } from '../encryption/key-provider.js';

/** What stands before every end that comes by itself, when its time has come: authorised and recorded first, then done. */
export interface EndDoor {
  purgeSecret<T>(name: string, work: () => Promise<T>): Promise<T>;
  purgeVersions<T>(name: string, versionIds: readonly string[], work: () => Promise<T>): Promise<T>;
  /** What is kept elsewhere about a secret that is gone: nothing of it may befall a new one of its name. */
  forgetSecret(name: string): Promise<void>;
  destroyKey<T>(cmk: CmkRef, work: () => Promise<T>): Promise<T>;
}
