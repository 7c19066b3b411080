import type { StoreCondition, StoreDriver, StoreEntry } from '../store/store-driver.js';
import { acknowledgementKey, borrowKey } from './acknowledgements.js';
import { INSTANCE_PREFIX } from './instance-record.js';
import type { InstanceWatch } from './instance-watch.js';

/** Who keeps a version from being retired, and what must stay true for that answer to hold. */
export interface VersionUse {
  /** One entry for each consumer, such as `pg pool orders@127.0.0.1:5432 of instance 3f…`; empty once nobody holds the version. */
  readonly holders: readonly string[];
  /** The instances that have moved on. */
  readonly acknowledged: readonly string[];
  /** For the commit that acts on `holders` being empty: fails when an instance has taken an old version up again since. */
  readonly condition: StoreCondition;
}

interface StoredWord {
  readonly promotion: number;
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

const PAGE = 500;

/** Reads what the instances of a fleet have acknowledged. */
export class Consumers {
  constructor(
    private readonly store: StoreDriver,
    private readonly watch: InstanceWatch,
    /** This instance, whose consumers are named without it. */
    private readonly ownId: string,
  ) {}

  /**
   * Who still uses one of `versionIds`, which were replaced by the given promotion: consumers that hold one, and instances whose handle has not moved on.
   * Those that are gone count no more; those without a handle on the secret have nothing to acknowledge.
   * @throws StoreUnavailableError
   */
  async using(secretName: string, versionIds: readonly string[], promotion: number): Promise<VersionUse> {
    // Read before the words are: who takes an old version up again later than this changes it.
    const borrow = await this.store.get(borrowKey(secretName));
    const holders: string[] = [];
    const acknowledged: string[] = [];
    for (const { instanceId, word, revision } of await this.#words(secretName)) {
      const labels = holdersIn(word, versionIds, promotion).map((label) => this.#name(label, instanceId));
      if (labels.length === 0) {
        acknowledged.push(instanceId);
        continue;
      }
      if (await this.#isGone(secretName, instanceId, revision)) continue;
      holders.push(...labels);
    }
    return {
      holders,
      acknowledged,
      condition: { key: borrowKey(secretName), revision: borrow?.revision ?? 0 },
    };
  }

  async #isGone(secretName: string, instanceId: string, revision: number): Promise<boolean> {
    if (instanceId === this.ownId || !(await this.watch.isGone(instanceId))) return false;
    // Only tidies up: a word without its instance counts for nothing. One that came back meanwhile has given another word, which must stay.
    const key = acknowledgementKey(secretName, instanceId);
    await this.store.commit({ conditions: [{ key, revision }], writes: [{ key, value: null }] }).catch(() => undefined);
    return true;
  }

  /** Removes the words of instances that are gone. */
  async tidy(secretName: string): Promise<void> {
    const prefix = acknowledgementKey(secretName, '');
    const words = await this.#list(prefix);
    // Listed after the words: who has a word had an entry before that.
    const living = new Set((await this.#list(INSTANCE_PREFIX)).map(({ key }) => key.slice(INSTANCE_PREFIX.length)));
    for (const { key, revision } of words) {
      if (living.has(key.slice(prefix.length))) continue;
      await this.store.commit({ conditions: [{ key, revision }], writes: [{ key, value: null }] });
    }
  }

  async #words(secretName: string): Promise<{ instanceId: string; word: StoredWord | undefined; revision: number }[]> {
    const prefix = acknowledgementKey(secretName, '');
    const entries = await this.#list(prefix);
    return entries.map(({ key, value, revision }) => {
      return { instanceId: key.slice(prefix.length), word: parseWord(value), revision };
    });
  }

  async #list(prefix: string): Promise<StoreEntry[]> {
    const entries: StoreEntry[] = [];
    for (;;) {
      const after = entries.at(-1)?.key;
      const page = await this.store.list({ prefix, limit: PAGE, ...(after === undefined ? {} : { after }) });
      entries.push(...page);
      if (page.length < PAGE) return entries;
    }
  }

  #name(label: string, instanceId: string): string {
    if (instanceId === this.ownId) return label === HANDLE ? `${HANDLE} in this process` : label;
    return `${label} of instance ${instanceId}`;
  }
}

const HANDLE = 'the handle';

function holdersIn(word: StoredWord | undefined, versionIds: readonly string[], promotion: number): string[] {
  // A word that cannot be read may hold anything.
  if (word === undefined) return ['an unreadable acknowledgement'];
  const holding = word.held
    .filter((held) => held.versionIds.some((id) => versionIds.includes(id)))
    .map(({ label }) => label);
  return word.promotion < promotion ? [HANDLE, ...holding] : holding;
}

function parseWord(bytes: Uint8Array): StoredWord | undefined {
  try {
    const word: StoredWord & { format: unknown } = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return word.format === 1 && typeof word.promotion === 'number' && Array.isArray(word.held) ? word : undefined;
  } catch {
    return undefined;
  }
}
