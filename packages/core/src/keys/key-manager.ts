import { type Observable, Subject } from 'rxjs';
import { setMaxListeners } from 'node:events';
import { pause } from '../foundation/clock.js';
import type { Randomness } from '../foundation/randomness.js';
import { KeyNotPublishedError, KeyRequestError } from '../encryption/keys/key-errors.js';
import {
  checkAlias,
  checkKeyId,
  type CmkRecord,
  DEFAULT_ALIAS,
  disable,
  enable,
  requireKeyVersion,
  toDestroy,
} from '../encryption/keys/key-record.js';
import { waitUntil } from '../rotation/wait-until.js';
import { checkSecretName } from '../versions/secret-name.js';
import { describeKeyRecord, type KeyDescription, type KeyPage } from './key-descriptions.js';
import { KeyDestruction, refuseDefault } from './key-destruction.js';
import { type KeyEvent, reportOf, type RewrapReport } from './key-events.js';
import { KeyKeeper } from './key-keeper.js';
import { KeyMove, type KeyMoveReport } from './key-move.js';
import type { KeyContext, KeyParts } from './key-parts.js';
import { KeyPublication } from './key-publication.js';
import { type KeyTask, KeyTasks, newRewrap, type PublicationTask } from './key-tasks.js';
import {
  type CreateKeyOptions,
  durationOf,
  type MoveKeysOptions,
  type RewrapScope,
  type RotateKeyOptions,
  type ScheduleDestructionOptions,
} from './key-requests.js';
import { KeyVersions } from './key-versions.js';
import { Rewrap } from './rewrap.js';

const DAY_MS = 86_400_000;
const [SHORTEST_WINDOW_MS, LONGEST_WINDOW_MS] = [7 * DAY_MS, 30 * DAY_MS];
const DEFAULT_DEADLINE_MS = 60_000;
const LONGEST_PAGE = 100;

/**
 * Master keys: makes, rotates, disables and destroys them, and seals values anew. A key is called by its id or by an alias; secrets that name none are under the
 * key of the alias `default`. The keys themselves are with the key provider; what they may do stands in the store, for all instances alike.
 *
 * Every method throws `KeyNotFoundError` for an unknown key, and `StoreUnavailableError` when the store does not answer.
 */
export class KeyManager {
  /** What happens to keys in this process, as it happens; nothing is replayed. Completes on shutdown. */
  readonly events$: Observable<KeyEvent>;
  readonly #context: KeyContext;
  readonly #versions: KeyVersions;
  readonly #publication: KeyPublication;
  readonly #rewrap: Rewrap;
  readonly #destruction: KeyDestruction;
  readonly #keeper: KeyKeeper;
  readonly #stopping = new AbortController();

  constructor(parts: KeyParts & { readonly randomness: Randomness }) {
    // Every call that waits listens.
    setMaxListeners(0, this.#stopping.signal);
    const tasks = new KeyTasks(parts.versions.store, parts.instance.id, parts.instances);
    const events = new Subject<KeyEvent>();
    this.events$ = events.asObservable();
    this.#context = { ...parts, tasks, events, signal: this.#stopping.signal };
    this.#versions = new KeyVersions(this.#context);
    this.#publication = new KeyPublication(this.#context);
    this.#rewrap = new Rewrap(this.#context);
    this.#destruction = new KeyDestruction(this.#context);
    const { randomness } = parts;
    this.#keeper = new KeyKeeper(this.#context, randomness, this.#publication, this.#rewrap, this.#destruction, {
      replaceAtLimit: async (cmk) => {
        await this.#versions.replaceAtLimit(cmk);
        void this.#keeper.look(true);
      },
      takeUpNewVersions: () => this.#versions.takeUpNew(),
    });
  }

  /** Takes part in what goes on in the background. `carriesOut` false: says which key versions this instance has, and no more. */
  start(carriesOut: boolean): Promise<void> {
    return this.#keeper.start(carriesOut);
  }

  /** Stops; what is under way goes on in another instance, or after the next start. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    await this.#keeper.stop();
    this.#context.events.complete();
  }

  /**
   * Makes a key, or takes one up that the provider has. Resolves once every instance can use it.
   * @throws KeyUnsupportedError when the provider makes no keys and no `id` is given
   * @throws KeyNotPublishedError when some instance does not have it by the deadline
   */
  async createKey(options: CreateKeyOptions = {}): Promise<KeyDescription> {
    const { clock, versions, tasks, events } = this.#context;
    const { records } = versions.keys;
    const deadlineMs = durationOf('deadline', options.deadline ?? DEFAULT_DEADLINE_MS);
    const { alias, id } = options;
    if (alias !== undefined && (await records.aliased(checkAlias(alias))) !== undefined)
      throw new KeyRequestError(`The alias ${alias} is taken. Move it with keys.setAlias, or choose another.`);
    if (id !== undefined && (await records.find(checkKeyId(id))) !== undefined)
      throw new KeyRequestError(`The key ${id} is known already. keys.rotateKey takes up its next version.`);
    const cmk = await this.#versions.made(id);
    const version = await this.#versions.newVersion(cmk);
    const now = clock.now();
    const task = this.#versions.task(cmk, false);
    const record: CmkRecord = {
      format: 1,
      id: cmk.id,
      description: options.description ?? '',
      createdAt: now,
      aliases: alias === undefined ? [] : [alias],
      versions: [version],
    };
    if (!(await records.add(record, [(await tasks.begin(task)).write])))
      throw new KeyRequestError(`The key ${cmk.id} or its alias was made by another instance meanwhile.`);
    events.next({ type: 'created', at: now, cmk });
    await this.#published(task, deadlineMs);
    return this.describeKey(cmk.id);
  }

  /** In the order of their ids, up to 100 a page. */
  async listKeys(options: { readonly after?: string; readonly limit?: number } = {}): Promise<KeyPage> {
    const { after } = options;
    if (after !== undefined) checkKeyId(after);
    const limit = Math.min(LONGEST_PAGE, Math.max(1, Math.trunc(options.limit ?? LONGEST_PAGE)));
    const records = await this.#records.list({ limit, ...(after === undefined ? {} : { after }) });
    return {
      items: records.map(describeKeyRecord),
      next: records.length === limit ? records.at(-1)?.id : undefined,
    };
  }

  async describeKey(key: string): Promise<KeyDescription> {
    const { versions, tasks } = this.#context;
    const { record } = await this.#records.get(await this.#records.resolve(key));
    const { id } = record;
    const described = describeKeyRecord(record);
    const running = (await tasks.find(newRewrap(id, '')))?.task;
    const last = await this.#rewrap.last(id);
    return {
      ...described,
      versions: await Promise.all(
        described.versions.map(async (one) => ({
          ...one,
          wraps: await versions.keys.wraps.count({ id, version: one.version }),
          missing: one.state === 'created' ? await this.#publication.missing({ id, version: one.version }) : undefined,
        })),
      ),
      rewrap: {
        running: running && { ...reportOf(running), instanceId: running.holder === '' ? undefined : running.holder },
        last: last && reportOf(last),
      },
    };
  }

  /**
   * Gives a key its next version: made by the provider, or found there where somebody has made it. Every instance must be able to open what it wraps before
   * anything is sealed under it; then it is active, the one before it still opens, and what is under the key is sealed anew in the background (see `rewrap`).
   * A version that waits already is the one.
   * @throws KeyUnsupportedError when there is no next version and the provider makes none
   * @throws KeyNotPublishedError when some instance does not have it by the deadline
   */
  async rotateKey(key: string, options: RotateKeyOptions = {}): Promise<KeyDescription> {
    const deadlineMs = durationOf('deadline', options.deadline ?? DEFAULT_DEADLINE_MS);
    const id = await this.#records.resolve(key);
    const task = await this.#versions.add(id, options.rewrap ?? true, (record) => this.#versions.next(record));
    await this.#published(task, deadlineMs);
    return this.describeKey(id);
  }

  /** Takes `disable` back, for one version or all; what was active is again, unless another version is by now. Calls off a destruction, too. */
  async enable(key: string, version?: number): Promise<KeyDescription> {
    return this.#edit(key, version, (record) => enable(record, version), 'enabled');
  }

  /**
   * Has one version, or all of a key, neither seal nor open anything, on every instance, until it is enabled again. What instances hold already stays with
   * them.
   * @throws KeyInUseError for the default key as a whole
   */
  async disable(key: string, version?: number): Promise<KeyDescription> {
    return this.#edit(
      key,
      version,
      (record) => {
        if (version === undefined) refuseDefault(record);
        return disable(record, version);
      },
      'disabled',
    );
  }

  /**
   * Disables one version, or all of a key, and destroys it after the recovery window, in whichever instance is there then. Unless `shred` is given, nothing may be
   * sealed under it: that is looked up now, and again before it is destroyed.
   * @throws KeyInUseError
   */
  async scheduleDestruction(key: string, options: ScheduleDestructionOptions = {}): Promise<KeyDescription> {
    const { version, shred = false } = options;
    const windowMs = durationOf('recoveryWindow', options.recoveryWindow ?? LONGEST_WINDOW_MS);
    if (windowMs < SHORTEST_WINDOW_MS || windowMs > LONGEST_WINDOW_MS)
      throw new KeyRequestError('The recovery window of a key is 7 to 30 days.');
    const id = await this.#records.resolve(key);
    await this.#destruction.plan(id, { version, shred, destroyAt: this.#context.clock.now() + windowMs });
    return this.describeKey(id);
  }

  /** Calls a destruction off and enables what it had disabled. */
  async cancelDestruction(key: string, version?: number): Promise<KeyDescription> {
    return this.#edit(
      key,
      version,
      (record) => {
        if (toDestroy(record).some((one) => version === undefined || one.version === version))
          return enable(record, version);
        throw new KeyRequestError(`Nothing of the master key ${record.id} is to be destroyed, or it is too late.`);
      },
      'destruction-cancelled',
    );
  }

  /** Points an alias to a key; null takes it away. The alias `default` always points to one: what names no key is under it from then on. */
  async setAlias(alias: string, key: string | null): Promise<void> {
    if (key === null && alias === DEFAULT_ALIAS)
      throw new KeyRequestError('The alias default always points to a key: point it to another one instead.');
    await this.#records.setAlias(alias, key === null ? undefined : await this.#records.resolve(key));
    this.#context.versions.keys.invalidate();
  }

  /**
   * Seals everything in the scope anew that is not under the active version of its key, while the application works. For a key, or everything, it goes on in
   * another instance when this one dies; whoever asks for what is under way already waits for that. Resolves when it is through, or the application stops.
   */
  async rewrap(scope: RewrapScope): Promise<RewrapReport> {
    if (scope !== 'all' && 'secret' in scope) return this.#rewrap.secret(checkSecretName(scope.secret));
    const { tasks, instance } = this.#context;
    const target = scope === 'all' ? '*' : await this.#records.resolve(scope.key);
    const task = newRewrap(target, instance.id);
    await tasks.add(task);
    await this.#keeper.look(true);
    await this.#ended(task, undefined);
    const report = (await tasks.find(task))?.task ?? (await this.#rewrap.last(target)) ?? task;
    return reportOf(report);
  }

  /**
   * Moves everything from the keys of one provider to those of the other, while the application works; all instances must have been started with `movingKeys`. Called
   * again, also elsewhere and after a crash, it goes on. Resolves with what is left under the old provider, which is needed no more when that is nothing.
   * @throws KeyRequestError without `movingKeys`, or when the new provider has no key for one of the old
   * @throws KeyNotPublishedError when some instance does not have the new keys by the deadline; nothing is sealed under them then
   */
  async move(options: MoveKeysOptions = {}): Promise<KeyMoveReport> {
    const deadlineMs = durationOf('deadline', options.deadline ?? DEFAULT_DEADLINE_MS);
    return new KeyMove(this.#context, {
      versions: this.#versions,
      published: (task) => this.#published(task, deadlineMs),
      enter: (id, description) => this.createKey({ id, description, deadline: deadlineMs }),
      rewrapAll: () => this.rewrap('all'),
      uses: (id, versions) => this.#destruction.uses(id, versions),
    }).run(options);
  }

  /** Destroys whatever of a key is due by now; called when its time has come. */
  settleDestruction(id: string): Promise<void> {
    return this.#destruction.settle(id);
  }

  get #records() {
    return this.#context.versions.keys.records;
  }

  /** Waits until a version is active. */
  async #published(task: PublicationTask, deadlineMs: number): Promise<void> {
    await this.#keeper.look(true);
    if (await this.#ended(task, deadlineMs)) return;
    const cmk = { id: task.id, version: task.version };
    throw new KeyNotPublishedError(cmk, await this.#publication.missing(cmk));
  }

  /** Whether a task has come to its end, here or elsewhere, within the time given. */
  async #ended(task: KeyTask, limitMs: number | undefined): Promise<boolean> {
    const { tasks, clock, instances, signal } = this.#context;
    const over = new AbortController();
    const stop = (): void => over.abort();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    if (limitMs !== undefined) void pause(clock, limitMs, over.signal).then(stop);
    let isOver = false;
    await waitUntil(
      async () => (isOver = (await tasks.find(task)) === undefined),
      [(wake) => tasks.watch(wake), (wake) => clock.after(instances.lookEveryMs, wake)],
      over.signal,
      clock,
    );
    over.abort();
    signal.removeEventListener('abort', stop);
    return isOver;
  }

  async #edit(
    key: string,
    version: number | undefined,
    edit: (record: CmkRecord) => CmkRecord,
    type: 'enabled' | 'disabled' | 'destruction-cancelled',
  ): Promise<KeyDescription> {
    const { versions, events, clock } = this.#context;
    const id = await this.#records.resolve(key);
    await this.#records.change(id, (record) => {
      if (version !== undefined) requireKeyVersion(record, version);
      return { record: edit(record) };
    });
    versions.keys.invalidate();
    events.next({ type, at: clock.now(), id, ...(version === undefined ? {} : { version }) });
    return this.describeKey(id);
  }
}
