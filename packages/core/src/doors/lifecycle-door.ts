import { keyResource, secretResource } from '../access/access-request.js';
import type { PolicyStore } from '../access/policy-store.js';
import type { Clock } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import type { EndDoor } from '../keys/end-door.js';
import type { Caller } from './caller.js';
import type { Door } from './door.js';

/** What comes to its end by itself goes through a door as well, in the name of the application. */
export function lifecycleDoor(
  door: Door,
  caller: Caller,
  policies: Pick<PolicyStore, 'deleteSecretPolicy'>,
  clock: Clock,
): EndDoor {
  return {
    purgeSecret: (name, work) => door.write(caller, { operation: 'purgeSecret', resource: secretResource(name) }, work),
    forgetSecret: async (name) => {
      const author = { principal: caller.principal, context: { ...caller.context, time: clock.now() } };
      try {
        // By force: that its author could not set it again is no matter where the secret is gone.
        await policies.deleteSecretPolicy(author, { name, facts: { tags: {} } }, { force: true });
      } catch (error) {
        if (!isSecretsError(error, 'POLICY_NOT_FOUND')) throw error;
      }
    },
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
