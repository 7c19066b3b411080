import { secretResource } from '../access/access-request.js';
import type { PolicyDocument } from '../access/policy-document.js';
import type { PolicyAuthor, PolicyChangeOptions, StoredSecretPolicy } from '../access/policy-store.js';
import type { Caller } from '../doors/caller.js';
import { type Asked, factsOf } from '../doors/door.js';
import type { Clock } from '../foundation/clock.js';
import { checkSecretName } from '../versions/secret-name.js';
import type { SecretsManagerParts } from './manager-parts.js';

/** The operations on the policies of secrets themselves. */
export class SecretPolicies {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  set(
    name: string,
    document: PolicyDocument | string | null,
    options: PolicyChangeOptions,
  ): Promise<StoredSecretPolicy | undefined> {
    const { door, policies, versions, clock } = this.parts;
    const { force, ifSequence } = options;
    const asked: Asked = {
      operation: document === null ? 'deleteSecretPolicy' : 'setSecretPolicy',
      resource: secretResource(checkSecretName(name)),
      parameters: { force, ifSequence },
    };
    return door.write(this.caller, asked, async (seen) => {
      const author = authorOf(this.caller, asked, clock);
      const secret = { name, facts: factsOf(seen ?? (await versions.get(name))) };
      if (document !== null) return policies.setSecretPolicy(author, secret, document, options);
      await policies.deleteSecretPolicy(author, secret, options);
      return undefined;
    });
  }

  get(name: string): Promise<StoredSecretPolicy | undefined> {
    const asked: Asked = { operation: 'getSecretPolicy', resource: secretResource(checkSecretName(name)) };
    return this.parts.door.read(this.caller, asked, async () => this.parts.policies.getSecretPolicy(name));
  }
}

/** Who changes a policy by this very call. */
export function authorOf({ principal, context }: Caller, { operation }: Asked, clock: Clock): PolicyAuthor {
  return { principal, context: { ...context, time: clock.now(), operation } };
}
