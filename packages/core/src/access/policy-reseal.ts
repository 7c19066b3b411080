import { StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreEntry } from '../store/store-driver.js';
import {
  IDENTITY_PREFIX,
  type LoadedPolicies,
  NO_POLICIES,
  POLICY_HEAD,
  POLICY_PREFIX,
  type PolicyEdit,
  PolicyRecords,
  type PolicySeal,
  SECRET_PREFIX,
} from './policy-records.js';

const ATTEMPTS = 50;
const PAGE = 200;

/** Seals stored policies anew, as when a master key has rotated. What they say stays as it is. */
export class PolicyReseal {
  readonly #records: PolicyRecords;

  constructor(
    private readonly store: StoreDriver,
    seal: PolicySeal,
  ) {
    this.#records = new PolicyRecords(store, seal);
  }

  /** The entries of the store that hold policies, and what names them all; each is sealed for its key. */
  async *entries(): AsyncGenerator<StoreEntry> {
    let after: string | undefined;
    for (;;) {
      const page: StoreEntry[] = await this.store.list({
        prefix: POLICY_PREFIX,
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)?.key;
    }
  }

  /**
   * Seals what stands at a key anew; a policy that cannot be read stays as it is.
   * @throws StoreContentionError
   */
  async reseal(storeKey: string): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const loaded = await this.#records.load(NO_POLICIES);
      const edit = sameAgain(loaded, storeKey);
      if (loaded.revision === 0 || (edit === undefined && storeKey !== POLICY_HEAD)) return;
      const committed = await (edit === undefined
        ? this.#records.commitHead(loaded)
        : this.#records.commit(loaded, edit));
      if (committed !== undefined) return;
    }
    throw new StoreContentionError('the policies');
  }
}

/** The change that sets a policy to what it is. */
function sameAgain({ identity, secrets }: LoadedPolicies, storeKey: string): PolicyEdit | undefined {
  if (storeKey.startsWith(IDENTITY_PREFIX)) {
    const name = storeKey.slice(IDENTITY_PREFIX.length);
    const content = identity.get(name)?.content;
    return content && { kind: 'identity', name, content };
  }
  const name = storeKey.slice(SECRET_PREFIX.length);
  const content = storeKey.startsWith(SECRET_PREFIX) ? secrets.get(name)?.content : undefined;
  return content && { kind: 'secret', name, content };
}
