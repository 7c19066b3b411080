import { keyResource, secretResource } from '../access/access-request.js';
import type { EndDoor } from '../keys/end-door.js';
import type { Caller } from './caller.js';
import type { Door } from './door.js';

/** What comes to its end by itself goes through a door as well, in the name of the application. */
export function lifecycleDoor(door: Door, caller: Caller): EndDoor {
  return {
    purgeSecret: (name, work) => door.write(caller, { operation: 'purgeSecret', resource: secretResource(name) }, work),
    purgeVersions: (name, versionIds, work) =>
      door.write(
        caller,
        { operation: 'purgeVersion', resource: secretResource(name), parameters: { versionIds } },
        work,
      ),
    destroyKey: ({ id, version }, work) =>
      door.write(caller, { operation: 'purgeKeyVersion', resource: keyResource(id), parameters: { version } }, work),
  };
}
