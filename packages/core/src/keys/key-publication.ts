import { INSTANCE_PREFIX } from '../fleet/instance-record.js';
import { isSecretsError } from '../foundation/errors.js';
import type { CmkRef } from '../encryption/key-provider.js';
import { activate, requireKeyVersion } from '../encryption/keys/key-record.js';
import { waitUntil } from '../rotation/wait-until.js';
import type { StoreEntry } from '../store/store-driver.js';
import type { KeyContext } from './key-parts.js';
import { newRewrap, type OpenTask, type PublicationTask, taskKey } from './key-tasks.js';

/** An instance's word that it can open what a key version wraps, or why it cannot. Forging one can at most have a version used too early. */
export const KEY_WORD_PREFIX = 'cmkack/';
const PAGE = 500;
const TOGETHER = 50;

interface KeyWord {
  readonly format: 1;
  /** Undefined when all is well. */
  readonly error?: string;
}

/** What the proof of a key version is sealed for. */
export function proofContext({ version }: CmkRef): { secretName: string; versionId: string } {
  // Not a legal secret name, so that a proof can never be passed off as a value.
  return { secretName: '#cmk', versionId: `proof-${version}` };
}

/**
 * Brings a new key version to every instance before the first value is sealed under it. Each instance opens the version's proof with its own key provider and says so
 * in the store; the version becomes active in a commit after the last one has. Whoever joins later has it too, or does not start.
 */
export class KeyPublication {
  /** What this instance has said of each version. */
  readonly #said = new Map<string, string>();

  constructor(private readonly context: KeyContext) {}

  /** Says of every version that is being published whether this instance can open what it wraps. */
  async acknowledge(open: readonly OpenTask[]): Promise<void> {
    for (const { task } of open) {
      if (task.kind === 'publish') await this.#acknowledge({ id: task.id, version: task.version });
    }
  }

  /** The instances that have not shown yet that they have a key version. */
  async missing(cmk: CmkRef): Promise<string[]> {
    const { instances, instance } = this.context;
    const words = await this.#list(wordKey(cmk, ''));
    const shown = new Set(
      words.flatMap(({ key, value }) =>
        parseWord(value)?.error === undefined ? [key.slice(key.lastIndexOf(':') + 1)] : [],
      ),
    );
    const missing: string[] = [];
    for (const { key } of await this.#list(INSTANCE_PREFIX)) {
      const id = key.slice(INSTANCE_PREFIX.length);
      if (shown.has(id)) continue;
      if (id === instance.id || !(await instances.isGone(id))) missing.push(id);
    }
    return missing;
  }

  /** Waits for every instance, and makes the version the active one. Resolves early when the application stops. */
  async run(task: PublicationTask): Promise<void> {
    const { versions, clock, events, signal, instances } = this.context;
    const cmk = { id: task.id, version: task.version };
    let told = '';
    await this.#acknowledge(cmk);
    await waitUntil(
      async () => {
        const missing = await this.missing(cmk);
        if (missing.length === 0) return true;
        if (told !== missing.join()) {
          told = missing.join();
          events.next({ type: 'publishing', at: clock.now(), cmk, instances: missing });
        }
        return false;
      },
      [
        (wake) =>
          versions.store.watch(
            ({ keys }) => (keys === undefined || keys.some((key) => key.startsWith(KEY_WORD_PREFIX))) && wake(),
            [KEY_WORD_PREFIX],
          ),
        (wake) => clock.after(instances.lookEveryMs, wake),
      ],
      signal,
    );
    if (!signal.aborted) await this.#activate(task);
  }

  async #activate(task: PublicationTask): Promise<void> {
    const { versions, clock, events, tasks, instance } = this.context;
    const { id, version } = task;
    let isDone = false;
    await versions.keys.records.change(id, async (record) => {
      isDone = requireKeyVersion(record, version).state !== 'created';
      if (isDone) return undefined;
      const rewrap = task.rewrap ? [await tasks.begin(newRewrap(id, instance.id))] : [];
      return {
        record: activate(record, version, clock.now()),
        conditions: rewrap.map(({ condition }) => condition),
        writes: [{ key: taskKey(task), value: null }, ...rewrap.map(({ write }) => write)],
      };
    });
    versions.keys.invalidate();
    if (!isDone) events.next({ type: 'activated', at: clock.now(), cmk: { id, version } });
    await this.#tidy({ id, version });
  }

  async #acknowledge(cmk: CmkRef): Promise<void> {
    const { versions, instance, clock, events } = this.context;
    const key = wordKey(cmk, instance.id);
    const found = await versions.keys.records.find(cmk.id);
    const proof = found?.record.versions.find(({ version }) => version === cmk.version)?.proof;
    if (proof === undefined) return;
    const error = await this.#cannotOpen(cmk, Buffer.from(proof, 'base64'));
    if (this.#said.get(key) === (error ?? 'ok')) return;
    const word: KeyWord = { format: 1, ...(error === undefined ? {} : { error }) };
    await versions.store.commit({ conditions: [], writes: [{ key, value: Buffer.from(JSON.stringify(word)) }] });
    this.#said.set(key, error ?? 'ok');
    if (error !== undefined) events.next({ type: 'missing-here', at: clock.now(), cmk, message: error });
  }

  /** Why this instance cannot open what a version wraps. */
  async #cannotOpen(cmk: CmkRef, proof: Buffer): Promise<string | undefined> {
    const { keyring } = this.context.versions;
    try {
      const under = keyring.sealedUnder(proofContext(cmk), proof);
      if (under.id !== cmk.id || under.version !== cmk.version) return 'its proof is of another key';
      (await keyring.open(proofContext(cmk), proof)).fill(0);
      return undefined;
    } catch (error) {
      return isSecretsError(error) ? `${error.code}: ${error.message}` : 'the key provider failed';
    }
  }

  /** Takes the words away that nobody asks for any more. */
  async #tidy(cmk: CmkRef): Promise<void> {
    const writes = (await this.#list(wordKey(cmk, ''))).map(({ key }) => ({ key, value: null }));
    for (let from = 0; from < writes.length; from += TOGETHER)
      await this.context.versions.store.commit({ conditions: [], writes: writes.slice(from, from + TOGETHER) });
  }

  async #list(prefix: string): Promise<StoreEntry[]> {
    const entries: StoreEntry[] = [];
    for (;;) {
      const after = entries.at(-1)?.key;
      const page = await this.context.versions.store.list({
        prefix,
        limit: PAGE,
        ...(after === undefined ? {} : { after }),
      });
      entries.push(...page);
      if (page.length < PAGE) return entries;
    }
  }
}

function wordKey({ id, version }: CmkRef, instanceId: string): string {
  return `${KEY_WORD_PREFIX}${id}:${version}:${instanceId}`;
}

/** What cannot be read says nothing good. */
function parseWord(bytes: Uint8Array): KeyWord {
  try {
    const word: KeyWord = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (word.format === 1) return word;
  } catch {
    // Falls through.
  }
  return { format: 1, error: 'it does not parse' };
}
