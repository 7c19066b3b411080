import type { CmkRef } from '../encryption/key-provider.js';

/** What stands before every end that comes by itself, when its time has come: authorised and recorded first, then done. */
export interface EndDoor {
  purgeSecret<T>(name: string, work: () => Promise<T>): Promise<T>;
  purgeVersions<T>(name: string, versionIds: readonly string[], work: () => Promise<T>): Promise<T>;
  destroyKey<T>(cmk: CmkRef, work: () => Promise<T>): Promise<T>;
}

/** Lets everything pass: for engines that run without a manager. */
export const NO_END_DOOR: EndDoor = {
  purgeSecret: (_name, work) => work(),
  purgeVersions: (_name, _versionIds, work) => work(),
  destroyKey: (_cmk, work) => work(),
};
