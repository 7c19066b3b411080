import { RotationInterruptedError, StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreWrite } from '../store/store-driver.js';
import type { RecordEdit, VersionStore } from '../versions/version-store.js';
import type { SecretRecord } from '../versions/secret-record.js';
import { NO_ROTATION, parseRotationState, type RotationState } from './rotation-state.js';

const PREFIX = 'rotation/';
const ATTEMPTS = 50;

/**
 * The write-ahead journal of rotations. The engine's own transitions are guarded by what the journal says (`expect`), so that of two
 * engines on one secret the later one finds the journal moved and stops.
 */
export class RotationJournal {
  constructor(
    private readonly store: StoreDriver,
    private readonly versions: VersionStore,
  ) {}

  async read(secretName: string): Promise<RotationState> {
    return (await this.#load(secretName)).state;
  }

  /** The names of all secrets that have something under way, and what. */
  async unfinished(): Promise<string[]> {
    const names: string[] = [];
    let after: string | undefined;
    for (;;) {
      const page = await this.store.list({ prefix: PREFIX, limit: 500, ...(after === undefined ? {} : { after }) });
      for (const entry of page) {
        const name = entry.key.slice(PREFIX.length);
        // A state that does not parse must not keep the others from going on; it fails when its own secret is rotated.
        try {
          const state = parseRotationState(name, entry.value);
          if (state.active !== undefined || state.obligations.length > 0) names.push(name);
        } catch {
          names.push(name);
        }
      }
      after = page.at(-1)?.key;
      if (page.length < 500) return names;
    }
  }

  /** Changes the journal alone. `edit` returns undefined to give up because the state is not what the caller stands on. */
  async change(secretName: string, edit: (state: RotationState) => RotationState | undefined): Promise<RotationState> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const { state, revision } = await this.#load(secretName);
      const next = edit(state);
      if (next === undefined) throw new RotationInterruptedError(secretName);
      const committed = await this.store.commit({
        conditions: [{ key: PREFIX + secretName, revision }],
        writes: [this.#write(secretName, next)],
      });
      if (committed !== undefined) return next;
    }
    throw new StoreContentionError(secretName);
  }

  /** Changes the journal and the secret's record in one commit. */
  async changeBoth(
    secretName: string,
    edit: (
      state: RotationState,
      record: SecretRecord | undefined,
    ) =>
      | Promise<{ state: RotationState; edit: RecordEdit } | undefined>
      | { state: RotationState; edit: RecordEdit }
      | undefined,
  ): Promise<{ state: RotationState; record: SecretRecord }> {
    let committed = NO_ROTATION;
    const record = await this.versions.change(secretName, async (before) => {
      const { state, revision } = await this.#load(secretName);
      const next = await edit(state, before);
      if (next === undefined) throw new RotationInterruptedError(secretName);
      committed = next.state;
      return {
        record: next.edit.record,
        conditions: [...(next.edit.conditions ?? []), { key: PREFIX + secretName, revision }],
        writes: [...(next.edit.writes ?? []), this.#write(secretName, next.state)],
      };
    });
    if (record === undefined) throw new RotationInterruptedError(secretName);
    return { state: committed, record };
  }

  async #load(secretName: string): Promise<{ state: RotationState; revision: number }> {
    const entry = await this.store.get(PREFIX + secretName);
    if (entry === undefined) return { state: NO_ROTATION, revision: 0 };
    return { state: parseRotationState(secretName, entry.value), revision: entry.revision };
  }

  #write(secretName: string, state: RotationState): StoreWrite {
    return { key: PREFIX + secretName, value: Buffer.from(JSON.stringify(state)) };
  }
}
