import { type CmkRef, isCmkRef } from '../encryption/key-provider.js';
import { KeyNotFoundError, KeyRequestError, KeyUnsupportedError } from '../encryption/keys/key-errors.js';
import {
  activeVersion,
  addKeyVersion,
  type CmkRecord,
  type CmkVersionRecord,
  createdVersion,
} from '../encryption/keys/key-record.js';
import type { KeyContext } from './key-parts.js';
import { proofContext } from './key-publication.js';
import type { PublicationTask } from './key-tasks.js';

const PROOF_BYTES = 32;

/** Where versions of master keys come from: the provider makes them, or has some that the store does not know yet. */
export class KeyVersions {
  constructor(private readonly context: KeyContext) {}

  task({ id, version }: CmkRef, rewrap: boolean): PublicationTask {
    return { format: 1, kind: 'publish', id, version, rewrap, holder: this.context.instance.id };
  }

  /** Enters the next version of a key as made, unless one waits already, and begins to publish it. */
  async add(id: string, rewrap: boolean, next: (record: CmkRecord) => Promise<CmkRef>): Promise<PublicationTask> {
    const { tasks, events, clock } = this.context;
    let made: CmkRef | undefined;
    let task = this.task({ id, version: 1 }, rewrap);
    await this.context.versions.keys.records.change(id, async (record) => {
      // While it waits for its successor to be published it goes on as before.
      if (record.movedTo !== undefined && activeVersion(record) === undefined)
        throw new KeyRequestError(`The key ${id} has made way for ${record.movedTo}. Rotate that one.`);
      const waiting = createdVersion(record);
      if (waiting !== undefined) {
        task = this.task({ id, version: waiting.version }, rewrap);
        made = undefined;
        return undefined;
      }
      // Asked again after another writer was first, it must not make one more.
      made ??= await next(record);
      task = this.task(made, rewrap);
      const { condition, write } = await tasks.begin(task);
      return {
        record: addKeyVersion(record, await this.newVersion(made)),
        conditions: [condition],
        writes: [write],
      };
    });
    if (made !== undefined) events.next({ type: 'created', at: clock.now(), cmk: made });
    return task;
  }

  /** A version that the provider has and the store does not know yet, or a new one. */
  async next(record: CmkRecord): Promise<CmkRef> {
    const { provider } = this.context.versions;
    const found = await this.#unknownVersion(record);
    if (found !== undefined) return found;
    if (provider.make !== undefined) return provider.make(record.id);
    throw new KeyUnsupportedError(
      provider.name,
      `makes no keys itself, and has no version of ${record.id} that is not in use. Make one there and try again, or point the alias to another key with keys.setAlias and seal anew with keys.rewrap.`,
    );
  }

  async #unknownVersion(record: CmkRecord): Promise<CmkRef | undefined> {
    const { provider } = this.context.versions;
    const newest = Math.max(0, ...record.versions.map(({ version }) => version));
    const listed = (await provider.list?.()) ?? [await provider.active()];
    return listed.filter(({ id, version }) => id === record.id && version > newest).toSorted(byVersion)[0];
  }

  async made(id: string | undefined): Promise<CmkRef> {
    const { provider } = this.context.versions;
    if (id === undefined) {
      if (provider.make !== undefined) return provider.make();
      throw new KeyUnsupportedError(
        provider.name,
        'makes no keys itself. Make one there, and name it: keys.createKey({ id }).',
      );
    }
    const listed = (await provider.list?.()) ?? [await provider.active()];
    const found = listed
      .filter((one) => one.id === id)
      .toSorted(byVersion)
      .at(-1);
    if (found === undefined) throw new KeyNotFoundError(`${id} with the key provider ${provider.name}`);
    return found;
  }

  async newVersion(cmk: CmkRef): Promise<CmkVersionRecord> {
    const { versions, clock } = this.context;
    if (!isCmkRef(cmk)) throw new KeyUnsupportedError(versions.provider.name, 'made a key that cannot be one.');
    const proof = await versions.keyring.seal(proofContext(cmk), versions.randomBytes(PROOF_BYTES), cmk);
    return { version: cmk.version, state: 'created', createdAt: clock.now(), proof: proof.toString('base64') };
  }

  async replaceAtLimit(cmk: CmkRef): Promise<void> {
    const { clock, events } = this.context;
    const { record } = await this.context.versions.keys.records.get(cmk.id);
    // Another one is on its way, or in use, already.
    if (record.versions.find(({ version }) => version === cmk.version)?.state !== 'active') return;
    if (createdVersion(record) !== undefined) return;
    events.next({ type: 'wrap-limit', at: clock.now(), cmk });
    // What the old version wraps is safe where it is, so nothing is sealed anew.
    await this.add(cmk.id, false, (before) => this.next(before));
  }

  /** Takes up versions of the default key that somebody added where the provider has its keys. */
  async takeUpNew(): Promise<void> {
    const id = await this.context.versions.keys.defaultId();
    const { record } = await this.context.versions.keys.records.get(id);
    if (createdVersion(record) !== undefined) return;
    const found = await this.#unknownVersion(record);
    if (found !== undefined) await this.add(id, true, async () => found);
  }
}

function byVersion(one: CmkRef, other: CmkRef): number {
  return one.version - other.version;
}
