import { secretResource } from '../access/access-request.js';
import type { Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import type { DeleteSecretOptions, DestroyVersionOptions } from '../lifecycle/lifecycle-requests.js';
import { recoveryWindowMs } from '../lifecycle/lifecycle-requests.js';
import { checkSecretName } from '../versions/secret-name.js';
import { describeSecret, type SecretDescription } from './descriptions.js';
import type { SecretsManagerParts } from './manager-parts.js';
import { checkVersionId } from './requests.js';

const DAY_MS = 86_400_000;

/** The operations that end a secret, or a version of it, and take that back. */
export class SecretEnds {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  async delete(name: string, options: DeleteSecretOptions): Promise<SecretDescription | undefined> {
    const recoveryWindowDays = recoveryWindowMs(options) / DAY_MS;
    const asked: Asked = {
      operation: 'deleteSecret',
      resource: secretResource(checkSecretName(name)),
      facts: { recoveryWindowDays },
      parameters: { recoveryWindowDays, force: options.force },
    };
    const record = await this.parts.door.write(this.caller, asked, () =>
      this.parts.lifecycle.deleteSecret(name, options),
    );
    return record && describeSecret(record);
  }

  async restore(name: string): Promise<SecretDescription> {
    const asked: Asked = { operation: 'restoreSecret', resource: secretResource(checkSecretName(name)) };
    return describeSecret(
      await this.parts.door.write(this.caller, asked, () => this.parts.lifecycle.restoreSecret(name)),
    );
  }

  async destroyVersion(name: string, versionId: string, options: DestroyVersionOptions): Promise<SecretDescription> {
    const asked: Asked = {
      operation: 'destroyVersion',
      resource: secretResource(checkSecretName(name)),
      facts: { versionId: checkVersionId(name, versionId) },
      parameters: { versionId, after: options.after },
    };
    return describeSecret(
      await this.parts.door.write(this.caller, asked, () =>
        this.parts.lifecycle.destroyVersion(name, versionId, options),
      ),
    );
  }
}
