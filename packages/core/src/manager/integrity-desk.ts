import { STORE_RESOURCE } from '../access/access-request.js';
import type { OperationName } from '../access/actions.js';
import type { Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import { type IntegrityFinding, StoreIntegrityError } from '../integrity/integrity-findings.js';
import type { AcceptRestoreOptions, StoreIntegrity } from '../integrity/store-integrity.js';
import type { StoreHead, StoreVerification, VerifyStoreOptions } from '../integrity/verify-store.js';
import type { SecretsManagerParts } from './manager-parts.js';

/** `SecretsManager.integrity`: whether the store is what was written to it, and the word of an operator that it is. See docs/integrity.md. */
export class IntegrityDesk {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  /**
   * Looks at everything that the store holds, and tells all that is wrong with it.
   * @throws StoreIntegrityError `INTEGRITY_OPTIONS_INVALID` where integrity was switched off
   */
  verifyStore(options: VerifyStoreOptions = {}): Promise<StoreVerification> {
    return this.parts.door.read(
      this.caller,
      asking('verifyStore', { anchors: options.anchors?.length }),
      () => this.#integrity().verifyStore(options),
      ({ entries, secrets, findings }) => ({ additionalEventData: { entries, secrets, findings: findings.length } }),
    );
  }

  /** The state of the store as it is now, to be kept elsewhere and given to `verifyStore` later. */
  storeHead(): Promise<StoreHead> {
    return this.parts.door.read(
      this.caller,
      asking('verifyStore', { head: true }),
      () => this.#integrity().storeHead(),
      ({ sequence }) => ({ additionalEventData: { sequence } }),
    );
  }

  /**
   * Declares that what stands in the store is right, after its database was put back from a backup on purpose. What was not written under the key of the store is left out,
   * and returned. The event carries the reason.
   */
  acceptRestore(options: AcceptRestoreOptions): Promise<readonly IntegrityFinding[]> {
    const { reason, secretName, anchors } = options;
    const asked = asking('acceptRestore', {
      reason: reason.slice(0, LONGEST_REASON),
      secretName,
      anchors: anchors?.length,
    });
    return this.parts.door.write(this.caller, asked, () => this.#integrity().acceptRestore(options));
  }

  #integrity(): StoreIntegrity {
    const { integrity } = this.parts;
    if (integrity !== undefined) return integrity;
    throw new StoreIntegrityError(
      'INTEGRITY_OPTIONS_INVALID',
      'The integrity of this store is switched off (`integrity: false`), so there is nothing to verify or to accept.',
    );
  }
}

const LONGEST_REASON = 500;

function asking(operation: OperationName, parameters: Asked['parameters']): Asked {
  return { operation, resource: STORE_RESOURCE, parameters };
}
