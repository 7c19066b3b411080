import { isSecretsError } from '../foundation/errors.js';
import type { CmkRef } from '../encryption/key-provider.js';
import { KeyInUseError } from '../encryption/keys/key-errors.js';
import {
  type CmkRecord,
  DEFAULT_ALIAS,
  markDestroyed,
  planDestruction,
  postpone,
  requireKeyVersion,
  toDestroy,
} from '../encryption/keys/key-record.js';
import type { StoreEntry } from '../store/store-driver.js';
import { VALUE_PREFIX, valueContext } from '../versions/sealed-values.js';
import type { KeyContext } from './key-parts.js';

const PAGE = 200;
const NAMED = 10;
/** How much later a destruction that would take data with it is looked at again. */
const HELD_FOR_MS = 86_400_000;

/** What is to be destroyed, and when. */
export interface PlannedDestruction {
  /** All of the key when undefined. */
  readonly version: number | undefined;
  readonly shred: boolean;
  readonly destroyAt: number;
}

/** Plans the end of keys and carries it out once its time has come, in whichever instance is there then. */
export class KeyDestruction {
  constructor(private readonly context: KeyContext) {}

  /** Some of what is sealed under versions of a key, as `name:version`; nothing when nothing is. Looks at every value of the store. */
  async uses(id: string, versions: ReadonlySet<number>): Promise<string[]> {
    const uses: string[] = [];
    for await (const entry of this.#values()) {
      const context = valueContext(entry.key);
      const under = context && this.context.versions.values.sealedUnder(context, entry);
      if (under?.id !== id || !versions.has(under.version)) continue;
      uses.push(entry.key.slice(VALUE_PREFIX.length));
      if (uses.length === NAMED) break;
    }
    const others = await this.context.versions.ownEntries.under(id, versions);
    return [...uses, ...others].slice(0, NAMED);
  }

  /**
   * Disables one version, or all of a key, to be destroyed at a time to come.
   * @throws KeyInUseError for the active version, for the default key as a whole, and, unless it is to be shredded, when something is sealed under it
   */
  async plan(id: string, { version, shred, destroyAt }: PlannedDestruction): Promise<void> {
    const { versions, clock, events } = this.context;
    const { records } = versions.keys;
    const { record } = await records.get(id);
    refuseActive(record, version);
    if (!shred) {
      const affected = version === undefined ? record.versions.map((one) => one.version) : [version];
      const uses = await this.uses(id, new Set(affected));
      if (uses.length > 0) throw stillUsed(id, version, uses);
    }
    await records.change(id, (before) => {
      // Looked at again: it may have become the active one, or the default key, meanwhile.
      refuseActive(before, version);
      return { record: planDestruction(before, version, destroyAt, shred) };
    });
    versions.keys.invalidate();
    events.next({ type: 'destruction-scheduled', at: clock.now(), id, destroyAt, ...(version && { version }) });
  }

  /** Destroys whatever of a key is due by now. */
  async settle(id: string): Promise<void> {
    const { versions, clock } = this.context;
    const found = await versions.keys.records.find(id);
    if (found === undefined) return;
    for (const { version, destroyAt, shred } of toDestroy(found.record)) {
      if (destroyAt <= clock.now()) await this.#destroy({ id, version }, shred === true);
    }
  }

  /** Destroys with this instance's provider what another one has destroyed with its own, as in its copy of a key file. */
  async tidyProvider(): Promise<void> {
    const { versions, clock, events } = this.context;
    const { provider } = versions;
    if (provider.list === undefined || provider.destroy === undefined) return;
    for (const cmk of await provider.list()) {
      const record = (await versions.keys.records.find(cmk.id))?.record;
      if (record?.versions.find(({ version }) => version === cmk.version)?.state !== 'destroyed') continue;
      await provider.destroy(cmk);
      events.next({ type: 'destroyed', at: clock.now(), cmk, byProvider: true });
    }
  }

  async #destroy(cmk: CmkRef, shred: boolean): Promise<void> {
    const { versions, clock, events } = this.context;
    const { records } = versions.keys;
    if (!shred) {
      const inUse = await this.uses(cmk.id, new Set([cmk.version]));
      if (inUse.length > 0) {
        const until = clock.now() + HELD_FOR_MS;
        await records.change(cmk.id, (record) =>
          isDue(record, cmk.version, clock.now()) ? { record: postpone(record, cmk.version, until) } : undefined,
        );
        events.next({ type: 'destruction-held', at: clock.now(), cmk, until, inUse });
        return;
      }
    }
    await this.context.ends.destroyKey(cmk, () => this.#destroyNow(cmk));
  }

  async #destroyNow(cmk: CmkRef): Promise<void> {
    const { versions, clock, events } = this.context;
    // Marked first: once it is said to be gone, a call that cancels comes too late and is told so, and every instance tidies up its own provider.
    let isMine = false;
    await versions.keys.records.change(cmk.id, (record) => {
      isMine = isDue(record, cmk.version, clock.now());
      return isMine ? { record: markDestroyed(record, cmk.version) } : undefined;
    });
    versions.keys.invalidate();
    if (!isMine) return;
    const byProvider = versions.provider.destroy !== undefined && (await this.#destroyThere(cmk));
    events.next({ type: 'destroyed', at: clock.now(), cmk, byProvider });
  }

  /** What fails here is done by `tidyProvider`, of this instance or another. */
  async #destroyThere(cmk: CmkRef): Promise<boolean> {
    const { versions, clock, events } = this.context;
    try {
      await versions.provider.destroy?.(cmk);
      return true;
    } catch (error) {
      const message = isSecretsError(error) ? error.message : 'the key provider failed';
      events.next({ type: 'failed', at: clock.now(), what: `destroying ${cmk.id} version ${cmk.version}`, message });
      return false;
    }
  }

  async *#values(): AsyncGenerator<StoreEntry> {
    let after: string | undefined;
    for (;;) {
      const page: StoreEntry[] = await this.context.versions.store.list({
        prefix: VALUE_PREFIX,
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)?.key;
    }
  }
}

/** @throws KeyInUseError */
export function refuseDefault(record: CmkRecord): void {
  if (!record.aliases.includes(DEFAULT_ALIAS)) return;
  throw new KeyInUseError(
    `${record.id} is the default key, which secrets that name none need. Point the alias default to another key first: keys.setAlias('default', …).`,
  );
}

function refuseActive(record: CmkRecord, version: number | undefined): void {
  if (version === undefined) refuseDefault(record);
  else if (requireKeyVersion(record, version).state === 'active')
    throw new KeyInUseError(
      `Version ${version} of ${record.id} is the active one. Rotate the key first, so that there is another.`,
    );
}

function stillUsed(id: string, version: number | undefined, uses: readonly string[]): KeyInUseError {
  const what = version === undefined ? id : `${id} version ${version}`;
  const more = uses.length < NAMED ? '' : ' and more';
  return new KeyInUseError(
    `The master key ${what} still seals ${uses.join(', ')}${more}. Seal them anew with keys.rewrap, or destroy them along with it by { shred: true }.`,
  );
}

function isDue(record: CmkRecord, version: number, now: number): boolean {
  return toDestroy(record).some((one) => one.version === version && one.destroyAt <= now);
}
