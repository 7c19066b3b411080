import { secretResource } from '../access/access-request.js';
import type { UseCounter, UseCounts } from '../audit/use-counts.js';
import { isSecretsError } from '../foundation/errors.js';
import type { Caller } from './caller.js';
import type { Asked, Door } from './door.js';

/** A version on its way to this instance. */
interface Delivered {
  readonly versionId: string;
}

/** Whom this instance has a version from. */
export interface Delivery {
  /** What the secret is injected as. */
  readonly secretName: string;
  /** The name of its own credential of it, where it has one. */
  readonly leaseName: string;
}

const CANDIDATE_STAGES = ['current', 'pending', 'previous'];
/** So many versions of a secret are remembered as delivered; an older one that comes back is an event again. */
const REMEMBERED = 32;

/**
 * How live handles and pools get values: each time it is decided whether they may, and each version that comes to this instance for the first time is an
 * event. That a handle looks again and finds what it has is none.
 */
export class Deliveries {
  readonly #delivered = new Map<string, Set<string>>();

  constructor(
    private readonly parts: { readonly door: Door; readonly caller: Caller; readonly counts: UseCounts | undefined },
  ) {}

  /** The current version, once this instance may have it and the log knows. `uses` counts what is made of it. */
  async current<T extends Delivered>(delivery: Delivery, read: () => Promise<T>): Promise<T & { uses?: UseCounter }> {
    const { door, caller, counts } = this.parts;
    const { secretName } = delivery;
    const asked = askedOf('deliverVersion', delivery, ['current']);
    const found = await door.read(caller, asked, read, ({ versionId }) =>
      this.#isDelivered(secretName, versionId) ? null : { additionalEventData: { versionId, stage: 'current' } },
    );
    this.#note(secretName, found.versionId);
    return counts === undefined ? found : { ...found, uses: counts.count(secretName, found.versionId) };
  }

  /**
   * What may open the target at this moment: of each stage that this instance may have.
   * @throws AccessDeniedError when it may have none
   */
  async candidates<T extends Delivered>(
    delivery: Delivery,
    read: (isAllowed: (stage: string) => boolean) => Promise<readonly T[]>,
  ): Promise<readonly T[]> {
    const { door, caller } = this.parts;
    const { secretName } = delivery;
    const allowed = new Set<string>();
    for (const stage of CANDIDATE_STAGES) {
      const { allowed: isAllowed } = await door.decide(caller, askedOf('getCandidates', delivery, [stage]));
      if (isAllowed) allowed.add(stage);
    }
    // With none of them, the refusal is of what every consumer needs.
    const stages = allowed.size === 0 ? ['current'] : [...allowed];
    const found = await door.read(
      caller,
      askedOf('getCandidates', delivery, stages),
      () => read((stage) => allowed.has(stage)),
      (versions) => {
        const fresh = versions.filter(({ versionId }) => !this.#isDelivered(secretName, versionId));
        const ids = fresh.map(({ versionId }) => versionId);
        return ids.length === 0 ? null : { additionalEventData: { versionIds: ids } };
      },
    );
    for (const { versionId } of found) this.#note(secretName, versionId);
    return found;
  }

  #isDelivered(secretName: string, versionId: string): boolean {
    return this.#delivered.get(secretName)?.has(versionId) === true;
  }

  #note(secretName: string, versionId: string): void {
    const versions = this.#delivered.get(secretName) ?? new Set<string>();
    this.#delivered.set(secretName, versions);
    versions.add(versionId);
    const [oldest] = versions.size > REMEMBERED ? versions : [];
    if (oldest !== undefined) versions.delete(oldest);
  }
}

function askedOf(
  operation: 'deliverVersion' | 'getCandidates',
  { secretName, leaseName }: Delivery,
  stages: readonly string[],
): Asked {
  return {
    operation,
    resource: secretResource(secretName),
    stages,
    parameters: { stages, lease: leaseName === secretName ? undefined : leaseName },
    // An outage is no read of a value, and looked at again for as long as it lasts.
    isNoFailure: (error) => isSecretsError(error, 'STORE_UNAVAILABLE'),
  };
}
